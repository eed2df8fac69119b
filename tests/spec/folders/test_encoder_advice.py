"""The refusal of a plain encoder says which reranker.json makes it a reranker, and that file does."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="a model is built and loaded")

import rerank_core
from rerank_core import CheckpointError, Head
from rerank_core.testing import tiny_encoder

DOCUMENTS = ["a panda is a bear", "bamboo", ""]


def refusal(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        rerank_core.load(folder, device="cpu")
    return str(caught.value)


def test_the_advice_makes_it_a_reranker(tmp_path: Path) -> None:
    """The five lines of the message, written to the folder, load it with the prompts that the folder has; the head
    named after them makes it late interaction."""
    tiny_encoder(tmp_path)
    prompts = {"query": "query: ", "document": "passage: "}
    (tmp_path / "config_sentence_transformers.json").write_text(json.dumps({"prompts": prompts}), encoding="utf-8")
    message = refusal(tmp_path)
    advice = re.search(r"^\{\n.*?^\}$", message, re.MULTILINE | re.DOTALL)
    other = re.search(r'"head": (\{.*?\})', message.rpartition("late interaction")[2])
    assert advice is not None
    assert other is not None
    assert len(advice.group().splitlines()) == 7, "five lines and the braces"

    (tmp_path / "reranker.json").write_text(advice.group(), encoding="utf-8")
    cosine = rerank_core.load(tmp_path, device="cpu")
    assert cosine.spec.head == Head.cosine("mean")
    assert (cosine.spec.template.query, cosine.spec.template.doc) == ("query: {query}", "passage: {doc}")
    assert cosine.rerank("panda", DOCUMENTS).score_space == "cosine"

    changed = json.loads(advice.group()) | {"head": json.loads(other.group(1))}
    (tmp_path / "reranker.json").write_text(json.dumps(changed), encoding="utf-8")
    assert rerank_core.load(tmp_path, device="cpu").rerank("panda", DOCUMENTS).score_space == "maxsim"
