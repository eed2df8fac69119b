"""MaxSim equals that of texts encoded alone, two at a time, in plain Hugging Face."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoTokenizer

import rerank_core
from helpers.plain import DOCUMENTS, LONG, QUERIES, PlainLateInteraction, assert_close
from rerank_core import Head, InputError, ModelSpec, Reranker, Template
from rerank_core.backends.tokenizer import TextTokenizer
from rerank_core.backends.torch import scorer_of
from rerank_core.testing.checkpoints import Family

MIXED = (*DOCUMENTS, LONG)
Reduce = Literal["mean", "sum"]


@pytest.fixture(scope="session")
def plain(encoder: Path) -> PlainLateInteraction:
    """The encoder as plain Hugging Face loads it."""
    return PlainLateInteraction(encoder)


@pytest.fixture(scope="session")
def live(plain: PlainLateInteraction) -> Callable[..., Reranker]:
    """A reranker around the live module."""

    def of(reduce: Reduce, **options: Any) -> Reranker:
        spec = ModelSpec(name="tiny", template=Template.each(), head=Head.maxsim(reduce), max_length=512)
        return Reranker.from_scorer(scorer_of(plain.model, plain.tokenizer, spec), spec, **options)

    return of


@pytest.fixture(scope="session")
def expected(plain: PlainLateInteraction) -> list[float]:
    """Mean scores of MIXED for the first query."""
    return [max(plain.window_scores(QUERIES[0], document, 512, "mean")) for document in MIXED]


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("reduce", ["mean", "sum"])
def test_scores_equal_plain_hugging_faces(
    live: Callable[..., Reranker], plain: PlainLateInteraction, reduce: Reduce, query: str
) -> None:
    """Every document, blank and odd ones included, has the mean or sum over query tokens of its best similarities."""
    expected = [plain.window_scores(query, document, 512, reduce)[0] for document in DOCUMENTS]
    ranking = live(reduce).rerank(query, DOCUMENTS)

    assert ranking.score_space == "maxsim"
    assert_close(expected, ranking.scores())
    assert max(expected) - min(expected) > 0.05, "a spread so small proves little"


def test_a_long_document_scores_as_its_best_window(live: Callable[..., Reranker], plain: PlainLateInteraction) -> None:
    """Windows of a long document are encoded alone, each in its own special tokens; the best one counts."""
    windows = plain.window_scores(QUERIES[0], LONG, 512, "sum")
    (hit,) = live("sum").rerank(QUERIES[0], [LONG])

    assert len(windows) > 2
    assert_close(windows, [passage.score for passage in hit.passages])
    assert_close([max(windows)], [hit.score])


@given(order=st.permutations(range(len(MIXED))), budget=st.integers(1, 10_000))
@settings(deadline=None, max_examples=10)
def test_scores_know_no_neighbours(
    live: Callable[..., Reranker], expected: list[float], order: list[int], budget: int
) -> None:
    """In any order, under any token budget, direct or from an index, every document keeps its score."""
    reranker = live("mean", token_budget=budget)
    documents = [MIXED[place] for place in order]
    wanted = [expected[place] for place in order]

    assert_close(wanted, reranker.rerank(QUERIES[0], documents).scores())
    assert_close(wanted, reranker.rerank(QUERIES[0], reranker.index(documents)).scores())


def test_an_index_serves_many_queries(live: Callable[..., Reranker]) -> None:
    """Scores, passages and order of an index are those of the documents themselves, for every query at once."""
    reranker = live("sum")
    index = reranker.index(MIXED)
    direct = reranker.rerank_many([(query, MIXED) for query in QUERIES])
    indexed = reranker.rerank_many([(query, index) for query in QUERIES])

    for one, other in zip(direct, indexed, strict=True):
        assert_close(one.scores(), other.scores())
        assert {hit.index: [(p.start, p.stop) for p in hit.passages] for hit in one} == {
            hit.index: [(p.start, p.stop) for p in hit.passages] for hit in other
        }


@pytest.mark.parametrize("budget", [3000, 1_000_000])
def test_many_queries_at_once_score_as_one_by_one(live: Callable[..., Reranker], budget: int) -> None:
    """Queries of different lengths each keep their scores, in batches of their own and all in one batch."""
    reranker = live("mean", token_budget=budget)
    requests = [(query, MIXED[start:]) for start, query in enumerate(QUERIES)]

    for (query, documents), ranking in zip(requests, reranker.rerank_many(requests), strict=True):
        assert_close(reranker.rerank(query, documents).scores(), ranking.scores())


def test_a_live_module_takes_any_form_of_its_tokenizer(encoder: Path, plain: PlainLateInteraction) -> None:
    """A transformers tokenizer, a `tokenizers.Tokenizer` and ours score alike; the caller's own is left as it was."""
    spec = ModelSpec(name="tiny", template=Template.each(), head=Head.maxsim("mean"))
    raw = Tokenizer.from_file(str(encoder / "tokenizer.json"))
    raw.enable_truncation(5)
    raw.enable_padding(length=9)
    forms = [AutoTokenizer.from_pretrained(str(encoder)), raw, TextTokenizer.from_directory(encoder)]
    expected = [plain.window_scores(QUERIES[0], document, 512, "mean")[0] for document in DOCUMENTS]

    for form in forms:
        reranker = Reranker.from_scorer(scorer_of(plain.model, form, spec), spec)
        assert_close(expected, reranker.rerank(QUERIES[0], DOCUMENTS).scores())
    assert len(raw.encode(LONG).ids) == 9


def test_a_live_module_is_scored_with_its_present_weights(encoder: Path, plain: PlainLateInteraction) -> None:
    """A scorer holds the module itself, so a training step shows in the next ranking."""
    spec = ModelSpec(name="tiny", template=Template.each(), head=Head.maxsim("mean"))
    module = copy.deepcopy(plain.model)
    reranker = Reranker.from_scorer(scorer_of(module, plain.tokenizer, spec), spec)
    before = reranker.rerank(QUERIES[0], DOCUMENTS[:3]).scores()
    module.embeddings.word_embeddings.weight.data.neg_()
    after = reranker.rerank(QUERIES[0], DOCUMENTS[:3]).scores()

    assert max(abs(a - b) for a, b in zip(before, after, strict=True)) > 1e-3


def test_a_cross_encoder_cannot_be_indexed(made: Callable[[Family], Path]) -> None:
    """A model that reads query and document together says so when asked for an index."""
    with pytest.raises(InputError, match="query and document together"):
        rerank_core.load(made("bert"), device="cpu").index(DOCUMENTS)
