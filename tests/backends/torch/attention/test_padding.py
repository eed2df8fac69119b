"""A row scores beside others as it does alone, also where a model's padding or its positions are not neutral."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

import rerank_core
from helpers.models.causal import YES_NO, loaded
from helpers.models.small_classifiers import SMALL, batch_of
from helpers.plain import PlainCausal, assert_close
from rerank_core import Head, ModelSpec, Reranker, Template
from rerank_core.backends.tokenizer import TextTokenizer
from rerank_core.backends.torch import scorer_of
from rerank_core.backends.torch.cross_encoder.classifier import ClassifierScorer
from rerank_core.backends.torch.execution import Execution
from rerank_core.testing import fake_spec, tiny_causal_lm
from rerank_core.testing.checkpoints import tiny_tokenizer

LENGTHS = (4, 9, 30, 9, 5)
ROWS = [[2, *(5 + (13 * place + 7 * number) % 200 for place in range(length - 2)), 3]
        for number, length in enumerate(LENGTHS)]  # fmt: skip
# Fourier transforms, convolutions, and landmarks over padding too.
LEAKY: dict[str, dict[str, Any]] = {
    "fnet": {},
    "convbert": {"embedding_size": 32, "num_attention_heads": 4},
    "nystromformer": {},
}


def module_of(family: str, auto: Any, dtype: torch.dtype = torch.float32, **more: Any) -> Any:
    size = max(tiny_tokenizer("bert").get_vocab().values()) + 1
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        config = AutoConfig.for_model(family, vocab_size=size, **{**SMALL, **LEAKY.get(family, {}), **more})
        module = auto.from_config(config)
        for weights in module.parameters():
            if weights.dim() > 1:
                torch.nn.init.normal_(weights, std=0.2)
    return module.to(dtype).eval()


@pytest.mark.parametrize(
    ("family", "dtype"),
    [*((family, torch.float32) for family in LEAKY), ("convbert", torch.bfloat16)],  # no Fourier transform below
)
def test_rows_that_padding_would_change_are_computed_alone(
    family: str, dtype: torch.dtype, caplog: pytest.LogCaptureFixture
) -> None:
    """Together they score as alone, and the log says once that they are computed one by one."""
    module = module_of(family, AutoModelForSequenceClassification, dtype)
    tokenizer = TextTokenizer(tiny_tokenizer("bert"))
    with caplog.at_level(logging.WARNING):
        scorer = ClassifierScorer(module, tokenizer, fake_spec(), execution=Execution())
        together = scorer.forward(batch_of(ROWS)).scores["score"]
    with torch.inference_mode():
        expected = [float(module(input_ids=torch.tensor([row])).logits[0, 0]) for row in ROWS]

    assert together == pytest.approx(expected, abs=1e-5)
    assert len([record for record in caplog.records if "one by one" in record.message]) == 1


@pytest.mark.parametrize("family", ["deberta-v2", "mpnet"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_neutral_padding_stays(family: str, dtype: torch.dtype) -> None:
    """A model whose padding changes nothing is computed in batches, also below float32."""
    module = module_of(family, AutoModelForSequenceClassification, dtype)
    scorer = ClassifierScorer(module, TextTokenizer(tiny_tokenizer("bert")), fake_spec(), execution=Execution())

    assert not scorer.packed
    assert not scorer.one_by_one


def test_token_vectors_are_those_of_each_text_alone() -> None:
    """Late interaction over an encoder that mixes padding in: documents, queries, and an index."""
    spec = ModelSpec(name="t", template=Template.each(), head=Head.maxsim(), max_length=256)
    module = module_of("fnet", AutoModel)
    scorer = scorer_of(module, tiny_tokenizer("bert"), spec)
    reranker = Reranker.from_scorer(scorer, spec)
    documents = ["a panda", "the giant panda is a bear native to the mountains of central China", "bamboo", ""]
    alone = [reranker.rerank("what is a panda?", [text]).scores()[0] for text in documents]

    assert_close(alone, reranker.rerank("what is a panda?", documents).scores())
    assert_close(alone, reranker.rerank_many([("bear", documents), ("what is a panda?", documents)])[1].scores())
    assert_close(alone, reranker.rerank("what is a panda?", reranker.index(documents)).scores())


def test_documents_of_a_model_loaded_from_a_folder(tmp_path: Path) -> None:
    """The way of a user: a folder, a query, documents of several lengths."""
    module_of("fnet", AutoModelForSequenceClassification).save_pretrained(tmp_path)
    tiny_tokenizer("bert").save(str(tmp_path / "tokenizer.json"))
    reranker = rerank_core.load(tmp_path, device="cpu")
    documents = ["a panda", "the giant panda is a bear native to the mountains of central China", "bamboo"]
    alone = [reranker.score([("what is a panda?", text)])[0] for text in documents]

    assert_close(alone, reranker.rerank("what is a panda?", documents).scores())


@pytest.mark.parametrize("kind", ["longrope", "dynamic"])
def test_a_long_row_does_not_change_the_positions_of_others(kind: str, tmp_path: Path) -> None:
    """Rotary embeddings that go by the longest row of a batch: each row has its own, in any order."""
    rope: dict[str, Any] = {"rope_type": kind, "rope_theta": 10000.0, "original_max_position_embeddings": 32}
    if kind == "longrope":
        rope |= {"short_factor": [1.0] * 4, "long_factor": [4.0] * 4, "factor": 8.0}
    else:
        rope |= {"factor": 8.0}
    directory = tiny_causal_lm(tmp_path, "llama", rope_parameters=rope, max_position_embeddings=1024)
    documents = [
        "panda",
        "pandas eat bamboo, it is the answer " * 3,
        "bear",
        "pandas eat bamboo, it is the answer " * 6,
    ]
    reranker = loaded(directory)
    expected = []
    for text in documents:
        plain = PlainCausal(directory)  # afresh: the plain module remembers the longest row, too
        expected.append(plain.score(["A: bear", "\n", "B: " + text, "\nyes?"], "yes", "no"))

    assert_close(expected, reranker.rerank("bear", documents).scores())
    assert_close(expected[::-1], reranker.rerank("bear", documents[::-1]).scores())


def test_training_fills_up_on_the_left_only_where_that_is_neutral(tmp_path: Path) -> None:
    """A live causal model whose positions come from nowhere but the row is trained row by row."""
    from transformers import AutoModelForCausalLM

    spec = replace(YES_NO, checkpoint="")
    found = {}
    for family in ("qwen2", "rwkv"):
        directory = tiny_causal_lm(tmp_path / family, family)
        whole: Any = AutoModelForCausalLM.from_pretrained(directory).eval()
        found[family] = scorer_of(whole, TextTokenizer.from_directory(directory), spec).one_by_one

    assert found == {"qwen2": False, "rwkv": True}
