"""The cosine of pooled vectors equals that of texts encoded alone in plain Hugging Face, alone and beside MaxSim."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel, AutoTokenizer

import rerank_core
from helpers.plain import DOCUMENTS, LONG, QUERIES, assert_close
from rerank_core import Head, InputError, ModelSpec, Reranker, Template, write_spec
from rerank_core.spec.head import Pooling
from rerank_core.testing import tiny_causal_lm, tiny_encoder

POOLINGS: tuple[Pooling, ...] = ("mean", "cls", "last")
TEMPLATE = Template.each(query="query: {query}", doc="passage: {doc}")


@pytest.fixture(scope="module", params=["bert", "xlm-roberta", "qwen3"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder, or a decoder used as one."""
    directory = tmp_path_factory.mktemp(request.param)
    if request.param == "qwen3":
        return tiny_causal_lm(directory, "qwen3")
    return tiny_encoder(directory, request.param)


@pytest.fixture(scope="module")
def plain(folder: Path) -> tuple[Any, Any]:
    """Model and tokenizer as plain Hugging Face loads them."""
    return AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def vector(plain: tuple[Any, Any], text: str, pooling: Pooling) -> torch.Tensor:
    """The vector of one text, alone."""
    model, tokenizer = plain
    ids = tokenizer(text, return_tensors="pt", truncation=True, max_length=512)["input_ids"]
    with torch.inference_mode():
        states = model(ids).last_hidden_state[0]
    pooled = {"mean": states.mean(0), "cls": states[0], "last": states[-1]}[pooling]
    return torch.nn.functional.normalize(pooled, dim=0)


def opened(folder: Path, head: Head) -> Reranker:
    """The folder with a reranker.json that says how to score."""
    write_spec(ModelSpec(name="tiny", template=TEMPLATE, head=head, max_length=512), folder)
    return rerank_core.load(str(folder), device="cpu")


@pytest.mark.parametrize("pooling", POOLINGS)
def test_scores_equal_plain_hugging_faces(folder: Path, plain: tuple[Any, Any], pooling: Pooling) -> None:
    """For each pooling the score is the cosine of the two vectors, each of its text alone; an index gives the same."""
    documents = [text for text in DOCUMENTS if text.strip()]
    query = vector(plain, f"query: {QUERIES[0]}", pooling)
    expected = [float(query @ vector(plain, f"passage: {text}", pooling)) for text in documents]
    reranker = opened(folder, Head.cosine(pooling))
    ranking = reranker.rerank(QUERIES[0], documents)

    assert ranking.score_space == "cosine"
    assert_close(expected, ranking.scores())
    assert_close(expected, reranker.rerank(QUERIES[0], reranker.index(documents)).scores())
    if pooling != "cls" or folder.name.startswith(("bert", "xlm")):  # a decoder's first token sees only itself
        assert max(expected) - min(expected) > 0.01, "a spread so small proves little"


def test_empty_and_long_documents(folder: Path) -> None:
    """An empty document has a score, and a long one that of its best window."""
    ranking = opened(folder, Head.cosine("mean")).rerank(QUERIES[0], ["", LONG])
    long = next(hit for hit in ranking if hit.index == 1)

    assert len(ranking) == 2
    assert len(long.passages) > 1
    assert long.score == max(passage.score for passage in long.passages)


def test_maxsim_with_pooling_offers_three_scores(folder: Path) -> None:
    """`score` chooses MaxSim, the cosine, or the mean of MaxSim a query token and the cosine; all three say so."""
    alone = {
        "maxsim": opened(folder, Head.maxsim("mean")).rerank(QUERIES[0], DOCUMENTS).scores(),
        "cosine": opened(folder, Head.cosine("cls")).rerank(QUERIES[0], DOCUMENTS).scores(),
    }
    expected = {**alone, "both": [(a + b) / 2 for a, b in zip(alone["maxsim"], alone["cosine"], strict=True)]}
    for reduce in ("mean", "sum"):
        reranker = opened(folder, Head.maxsim(reduce, pooling="cls"))
        index = reranker.index(DOCUMENTS)
        for score in ("cosine", "both"):
            assert_close(expected[score], reranker.rerank(QUERIES[0], DOCUMENTS, score=score).scores())
            assert_close(expected[score], reranker.rerank(QUERIES[0], index, score=score).scores())
        hit = reranker.rerank(QUERIES[0], DOCUMENTS, score="both")[0]
        assert list(hit.scores) == ["both", "maxsim", "cosine"]
        assert (
            reranker.rerank(QUERIES[0], DOCUMENTS).scores()
            == reranker.rerank(QUERIES[0], DOCUMENTS, score="maxsim").scores()
        )


def test_only_maxsim_is_explained(folder: Path) -> None:
    """The cosine is no sum over tokens."""
    reranker = opened(folder, Head.maxsim("mean", pooling="mean"))

    assert reranker.rerank(QUERIES[0], DOCUMENTS[:2], explain=True)[0].matches
    with pytest.raises(InputError, match="score='maxsim'"):
        reranker.rerank(QUERIES[0], DOCUMENTS[:2], explain=True, score="cosine")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Head.cosine("max"), "pooling"),  # type: ignore[arg-type]
        (lambda: Head("cosine"), "pooling"),
        (lambda: Head.maxsim(pooling="first"), "pooling"),  # type: ignore[arg-type]
        (lambda: Head("classifier", pooling="mean"), "takes no pooling"),
        (lambda: Head("maxsim", reduce="sum", vectors={"expand_to": 8, "expand_with": "x"}, pooling="mean"), "fill up"),  # type: ignore[arg-type]
        (lambda: ModelSpec(name="x", template=Template.pair(), head=Head.cosine()), "Template.each"),
    ],
)
def test_settings_without_meaning_are_refused(make: Any, message: str) -> None:
    """A pooling that does not exist, or where there is nothing to pool."""
    with pytest.raises(InputError, match=message):
        make()
