"""One loaded model serves many threads, and another process."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

import rerank_core
from helpers import forked
from helpers.plain import DOCUMENTS, LONG, QUERIES, assert_close
from rerank_core import Head, ModelSpec, Options, Reranker, Template
from rerank_core.backends.torch import build
from rerank_core.testing.checkpoints import Family

REQUESTS = [(query, (*DOCUMENTS[start:], LONG)[: 4 + 5 * start]) for start, query in enumerate(QUERIES)]


@pytest.mark.parametrize("family", ["xlm-roberta", "bert"])
def test_threads_get_the_scores_that_one_gets(family: Family, made: Callable[[Family], Path]) -> None:
    """Eight threads with queries of mixed lengths: no error, every score equal."""
    reranker = rerank_core.load(made(family), device="cpu")
    expected = [reranker.rerank(query, documents).scores() for query, documents in REQUESTS]

    def rank(number: int) -> list[float]:
        query, documents = REQUESTS[number % len(REQUESTS)]
        return reranker.rerank(query, documents).scores()

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(rank, range(4 * len(REQUESTS))))

    for number, scores in enumerate(results):
        assert_close(expected[number % len(REQUESTS)], scores)


def test_threads_share_a_late_interaction_model(encoder: Path) -> None:
    """The same for late interaction, where some threads index while others rank."""
    spec = ModelSpec(name="tiny", template=Template.each(), head=Head.maxsim("mean"))
    reranker = Reranker.from_scorer(build(replace(spec, checkpoint=str(encoder)), Options(device="cpu")), spec)
    expected = reranker.rerank(QUERIES[0], DOCUMENTS).scores()

    def rank(number: int) -> list[float]:
        documents = reranker.index(DOCUMENTS) if number % 2 else DOCUMENTS
        return reranker.rerank(QUERIES[0], documents).scores()

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(rank, range(16)))

    for scores in results:
        assert_close(expected, scores)


def test_another_process_scores_alike(made: Callable[[Family], Path]) -> None:
    """A pickled reranker loads itself with its options in a process without models, and gives equal scores."""
    reranker = rerank_core.load(made("xlm-roberta"), device="cpu", max_length=100, longdoc="meanp", max_query_length=2)
    pairs = [(query, document) for query in QUERIES for document in (*DOCUMENTS, LONG)]
    with ProcessPoolExecutor(1, mp_context=forked.context()) as pool:
        elsewhere = pool.submit(reranker.score, pairs).result(timeout=120)

    assert_close(reranker.score(pairs), elsewhere)
