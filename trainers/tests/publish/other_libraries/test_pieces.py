"""A folder whose template has text of its own has the same scores in transformers, by the code that its card shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import rerank_core
from rerank_core import Head, ModelSpec, Template, write_spec
from rerank_core.testing import tiny_causal_lm
from rerank_trainers.publish.other_libraries import plain_scores, plain_use

PAIRS = [("what is a panda?", "a bear"), ("熊猫", "bamboo"), ("what is it?", "")]


@pytest.mark.parametrize("order", ["query_first", "doc_first"])
def test_a_classifier_with_a_prompt_is_scored_piece_by_piece(order: Any, tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoModelForSequenceClassification

    tiny_causal_lm(tmp_path, "qwen3")
    auto: Any = AutoModelForSequenceClassification
    torch.manual_seed(0)
    auto.from_config(AutoConfig.from_pretrained(str(tmp_path), num_labels=1)).save_pretrained(str(tmp_path))
    template = Template(
        before="<|im_start|>",
        query="Q: {query}\n",
        between="and",
        doc="D: {doc}\n",
        after=("Q: {query}\n", "?"),
        order=order,
    )
    spec = ModelSpec("prompted", head=Head.classifier(), template=template, max_length=128)
    write_spec(spec, tmp_path)
    with rerank_core.load(tmp_path, device="cpu") as reranker:
        expected = reranker.score(PAIRS)
    assert plain_scores(tmp_path, spec, PAIRS) == {"transformers": pytest.approx(expected, abs=1e-5)}

    code = "\n".join(line for line in plain_use(spec) if line.startswith("    "))
    values: dict[str, Any] = {}
    exec(code.replace("    ", "").replace("path/to/this/folder", str(tmp_path)), values)
    assert values["score"] == pytest.approx(expected[0], abs=1e-5)
