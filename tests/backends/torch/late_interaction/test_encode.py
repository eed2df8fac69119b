"""`Reranker.encode` gives the vectors that rerank compares, in the order of the texts."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

import rerank_core
from helpers.plain import DOCUMENTS, LONG, QUERIES, assert_close
from rerank_core import (
    Head,
    InputError,
    ModelSpec,
    NonFiniteScoreError,
    Reranker,
    Template,
    TokenVectors,
    write_spec,
)
from rerank_core.backends.torch import scorer_of
from rerank_core.spec import ModelOption
from rerank_core.testing import tiny_cross_encoder, tiny_encoder

TEMPLATE = Template.each("query: {query}", "passage: {doc}")


def opened(folder: Path, head: Head, **options: Any) -> Reranker:
    tiny_encoder(folder, "bert")
    write_spec(ModelSpec(name="tiny", template=TEMPLATE, head=head, max_length=256), folder)
    return rerank_core.load(folder, device="cpu", **options)


@pytest.mark.parametrize("options", [{}, {"truncate_dim": 8}, {"token_budget": 40}])
def test_products_of_vectors_are_the_scores(tmp_path: Path, options: dict[str, int]) -> None:
    """One vector a text, of length 1, whatever shares its batch."""
    reranker = opened(tmp_path, Head.cosine("mean"), **options)
    queries = reranker.encode(QUERIES, side="query")
    documents = reranker.encode(iter(DOCUMENTS), side="doc")

    assert documents.dtype == np.float32
    assert documents.shape == (len(DOCUMENTS), options.get("truncate_dim", 32))
    assert np.allclose(np.linalg.norm(documents, axis=1), 1, atol=1e-6)
    for query, vector in zip(QUERIES, queries, strict=True):
        assert_close((documents @ vector).tolist(), reranker.rerank(query, DOCUMENTS).scores())


def test_late_interaction_gives_the_vectors_of_tokens(tmp_path: Path) -> None:
    """A list of arrays, one a text, whose MaxSim is the score."""
    reranker = opened(tmp_path, Head.maxsim("sum", TokenVectors(expand_to=24, expand_with="[MASK]")))
    (query,) = reranker.encode([QUERIES[0]], side="query")
    documents = reranker.encode(DOCUMENTS, side="doc")

    assert query.shape == (24, 32)
    assert query.dtype == np.float32
    expected = [float((query @ document.T).max(axis=1).sum()) for document in documents]
    assert_close(expected, reranker.rerank(QUERIES[0], DOCUMENTS).scores())


def test_the_score_chooses_the_vectors_of_a_head_with_both(tmp_path: Path) -> None:
    """With ``score="cosine"`` a late-interaction model gives the vector of each text."""
    reranker = opened(tmp_path, Head.maxsim("mean", pooling="mean"))
    query, documents = (
        reranker.encode(texts, side=side, score="cosine")  # type: ignore[arg-type]
        for texts, side in ((QUERIES[:1], "query"), (DOCUMENTS, "doc"))
    )
    expected = (documents @ query[0]).tolist()
    assert_close(expected, reranker.rerank(QUERIES[0], DOCUMENTS, score="cosine").scores())
    assert isinstance(reranker.encode(DOCUMENTS, side="doc"), list)


def test_a_long_text_is_cut_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its vector is that of its first tokens: the first window of rerank."""
    reranker = opened(tmp_path, Head.cosine("mean"))
    with caplog.at_level(logging.WARNING, "rerank_core"):
        vectors = reranker.encode(["short", LONG], side="doc")
        (query,) = reranker.encode([QUERIES[0]], side="query")
    assert "256 tokens: 1 of 2 texts" in caplog.text
    assert "text 1" in caplog.text
    first = reranker.rerank(QUERIES[0], [LONG], longdoc="firstp").scores()
    assert_close([float(vectors[1] @ query)], first)
    with caplog.at_level(logging.WARNING, "rerank_core"):
        caplog.clear()
        assert reranker.encode([LONG], side="query").shape == (1, 32)
        assert "1 of 1 texts" in caplog.text


def test_the_instruction_is_the_querys(tmp_path: Path) -> None:
    """A call option in the query's piece changes queries alone."""
    tiny_encoder(tmp_path, "bert")
    option = ModelOption("instruction", "str", "the task", default="find", when="call")
    template = Template.each("Instruct: {instruction}\nQuery:{query}")
    spec = ModelSpec(name="tiny", template=template, head=Head.cosine("mean"), options=(option,))
    plain = rerank_core.load(tmp_path_plain(tmp_path), device="cpu")
    scorer: Any = plain.scorer
    reranker = Reranker.from_scorer(scorer_of(scorer.module, scorer.tokenizer, spec), spec)
    for instruction in ("find", "other"):
        given = reranker.encode([QUERIES[0]], side="query", instruction=instruction)
        written = plain.encode([f"Instruct: {instruction}\nQuery:{QUERIES[0]}"], side="query")
        assert np.allclose(given, written, atol=1e-5)
    documents = [reranker.encode(DOCUMENTS, side="doc", instruction=one) for one in ("find", "other")]
    assert np.array_equal(*documents)


def tmp_path_plain(folder: Path) -> Path:
    """The same weights without a literal text."""
    write_spec(ModelSpec(name="plain", template=Template.each(), head=Head.cosine("mean")), folder)
    return folder


def test_nothing_to_encode(tmp_path: Path) -> None:
    reranker = opened(tmp_path, Head.cosine("mean"))
    assert reranker.encode([], side="doc").shape == (0, 32)
    assert reranker.encode([""], side="doc").shape == (1, 32)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda one: one.encode("a text", side="doc"), "list of strings"),
        (lambda one: one.encode(["a", 1], side="doc"), "text 1 is 1"),
        (lambda one: one.encode(["a"], side="passage"), "side"),
        (lambda one: one.encode(["a"], side="doc", top_k=3), "top_k"),
        (lambda one: one.encode(["a"], side="doc", surprise=3), "surprise"),
    ],
)
def test_wrong_arguments(tmp_path: Path, call: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call(opened(tmp_path, Head.cosine("mean")))


def test_a_cross_encoder_has_no_vectors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no vector"):
        rerank_core.load(tiny_cross_encoder(tmp_path, "bert"), device="cpu").encode(["a"], side="doc")


def test_an_option_in_the_documents_piece_is_refused(tmp_path: Path) -> None:
    """A document's vector would depend on the call."""
    scorer: Any = opened(tmp_path, Head.cosine("mean")).scorer
    option = ModelOption("instruction", "str", "the task", when="call")
    template = Template.each("{query}", "{instruction}{doc}")
    spec = ModelSpec(name="tiny", template=template, head=Head.cosine("mean"), options=(option,))
    with pytest.raises(InputError, match="instruction"):
        scorer_of(scorer.module, scorer.tokenizer, spec)


def test_a_query_may_be_filled_up_beyond_a_document(tmp_path: Path) -> None:
    """max_length is a document's; ColBERT models for long queries have a larger length of queries."""
    folder = tiny_encoder(tmp_path / "model", "bert")
    head = Head.maxsim("sum", TokenVectors(expand_to=48, expand_with="[MASK]"))
    write_spec(ModelSpec(name="tiny", template=Template.each(), head=head, max_length=24), folder)
    reranker = rerank_core.load(folder, device="cpu")
    queries = reranker.encode([QUERIES[0], LONG], side="query")
    (document,) = reranker.encode([DOCUMENTS[0]], side="doc")

    assert [query.shape for query in queries] == [(48, 32), (48, 32)]
    expected = float((queries[0] @ document.T).max(axis=1).sum())
    assert_close([expected], reranker.rerank(QUERIES[0], [DOCUMENTS[0]]).scores())


@pytest.mark.parametrize("head", [Head.cosine("mean"), Head.maxsim("sum")])
def test_vectors_that_are_not_finite_are_an_error(tmp_path: Path, head: Head) -> None:
    """A vector store would keep NaN, whose similarity says nothing."""
    opened(tmp_path, head)
    weights = load_file(tmp_path / "model.safetensors")
    weights["encoder.layer.1.output.dense.weight"][0, 0] = float("nan")
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    reranker = rerank_core.load(tmp_path, device="cpu")
    for side in ("query", "doc"):
        with pytest.raises(NonFiniteScoreError, match="NaN or infinity for 2 of 2 texts, the first of them text 0"):
            reranker.encode(["a", "b"], side=side)  # type: ignore[arg-type]
