"""Floors and ceilings of a metric: a random order, the order of the file, BM25, and the best order of the candidates.

The order of the file, BM25 and the best order are given as scores, which `measure_scores` measures like a model's.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

from rerank_core.measures.bm25 import BM25
from rerank_core.measures.expected_values import expectation
from rerank_core.measures.metrics import DocId
from rerank_core.measures.query_values import QueryValues, measure_scores, measured_queries

__all__ = ["best_scores", "bm25_scores", "file_order_scores", "random_values"]

_DRAWS = 50


def file_order_scores(candidates: Sequence[DocId]) -> dict[DocId, float]:
    """Scores that keep a query's candidates in their order.

    >>> file_order_scores([7, 3])
    {7: 0.0, 3: -1.0}
    """
    return {doc: float(-position) for position, doc in enumerate(candidates)}


def best_scores(candidates: Sequence[DocId], gains: Mapping[DocId, float]) -> dict[DocId, float]:
    """Scores that order a query's candidates best: their gains. No model that ranks these candidates does better."""
    return {doc: gains.get(doc, 0.0) for doc in candidates}


def bm25_scores(queries: Sequence[str], texts: Sequence[Mapping[DocId, str]]) -> list[dict[DocId, float]]:
    """BM25 of each query's candidates, with the document frequencies of all candidates of all queries.

    Args:
        texts: for each query, the text of each candidate.

    Raises:
        MissingDependencyError: the extra ``eval`` is not installed.
    """
    places: dict[str, int] = {}
    for candidates in texts:
        for text in candidates.values():
            places.setdefault(text, len(places))
    bm25 = BM25(list(places))
    result = []
    for query, candidates in zip(queries, texts, strict=True):
        scores = bm25.scores(query)
        result.append({doc: float(scores[places[text]]) for doc, text in candidates.items()})
    return result


def random_values(
    metrics: Sequence[str],
    gains: Sequence[Mapping[DocId, float]],
    candidates: Sequence[Sequence[DocId]],
    *,
    seed: int = 0,
) -> dict[str, QueryValues]:
    """The expected value of each metric where every order of a query's candidates is equally likely.

    It is exact for AP, nDCG, RR, R, P, Success and Judged with no parameter but a cutoff, and for ``map``,
    ``map_at_1000`` and ``unjudged``; for every other metric it is the mean of 50 random orders.

    Raises:
        InputError: as `measure_scores` does.
    """
    draw = random.Random(seed)
    result: dict[str, QueryValues] = {}
    for name in metrics:
        expected = expectation(name)
        if expected is not None:
            queries = measured_queries(name, gains, candidates)
            values = tuple(expected(gains[at], candidates[at]) for at in queries)
            result[name] = QueryValues(values, queries, len(gains) - len(queries))
            continue
        drawn = [measure_scores([name], gains, _shuffled(candidates, draw))[name] for _ in range(_DRAWS)]
        means = (sum(some) / _DRAWS for some in zip(*(one.values for one in drawn), strict=True))
        result[name] = replace(drawn[0], values=tuple(means))
    return result


def _shuffled(candidates: Sequence[Sequence[DocId]], draw: random.Random) -> list[dict[DocId, float]]:
    return [file_order_scores(draw.sample(list(docs), len(docs))) for docs in candidates]
