"""Measures a model on a judged set: its candidates reranked, and its pool searched. Texts are encoded once for both.

An embedding model is measured by the vectors of `Reranker.encode`, as a vector store would search them: a text is cut
at the model's ``max_length``. Late interaction is measured through `Reranker.index`, which reads long texts in windows,
and a cross-encoder through `Reranker.rerank`. Equal scores are in the worst order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy

import rerank_core
from rerank_core.measures import measure_orders, parse_metrics
from rerank_trainers.evaluation.dev_set import DevSet
from rerank_trainers.mining import BM25
from rerank_trainers.retrieval.retrievers import LateInteractionRetriever
from vectors.judged_sets import JudgedSet

__all__ = ["Measurement", "by_bm25", "by_model", "by_pairs"]

Scores = numpy.ndarray[Any, Any]
ScorePool = Callable[[str], Scores]
"""Returns the score of every text of a pool for a query."""

_SEARCHED = ("nDCG@10", "R@100", "RR@10")


@dataclass(frozen=True)
class Measurement:
    """Metrics of one set.

    Attributes:
        how: ``candidates`` or ``search``.
        ndcg: nDCG@10 of each query.
    """

    how: str
    means: Mapping[str, float]
    ndcg: Sequence[float]


def by_bm25(judged: JudgedSet) -> Iterator[Measurement]:
    """BM25 with the document frequencies of the pool."""
    return _measured(judged, BM25(judged.pool).scores)


def by_model(
    judged: JudgedSet, reranker: rerank_core.Reranker, widths: Sequence[int | None] = (None,)
) -> Iterator[tuple[int | None, Measurement]]:
    """A model that encodes query and document separately, at each width.

    Args:
        widths: number of values of an embedding that are kept; None keeps all.

    Raises:
        ValueError: a width of a late-interaction model.
    """
    head = reranker.spec.head
    if head is None or head.kind != "cosine":
        if tuple(widths) != (None,):
            raise ValueError(f"{reranker.spec.name!r} has token vectors, which are measured at their own width")
        score = LateInteractionRetriever(reranker, judged.pool).scores
        yield from ((None, one) for one in _measured(judged, score))
        return
    queries = list(dict.fromkeys([*(row.query for row in judged.rows), *(query for query, _ in judged.searches)]))
    documents, encoded = reranker.encode(judged.pool, side="doc"), reranker.encode(queries, side="query")
    for width in widths:
        vectors = dict(zip(queries, cut(encoded, width), strict=True))
        pool = cut(documents, width)
        for one in _measured(judged, lambda query, pool=pool, vectors=vectors: pool @ vectors[query]):
            yield width, one


def by_pairs(judged: JudgedSet, reranker: rerank_core.Reranker) -> Iterator[Measurement]:
    """A cross-encoder, which only reranks candidates."""
    result = DevSet(judged.rows).evaluate(reranker)
    yield Measurement("candidates", result.values, result.queries["nDCG@10"])


def cut(vectors: Scores, width: int | None) -> Scores:
    """The first values of each vector, scaled to length 1."""
    if width is None:
        return vectors
    kept = vectors[:, :width]
    return kept / numpy.maximum(numpy.linalg.norm(kept, axis=1, keepdims=True), 1e-12)


def _measured(judged: JudgedSet, score: ScorePool) -> Iterator[Measurement]:
    scores: dict[str, Scores] = {}

    def of(query: str) -> Scores:
        if query not in scores:
            scores[query] = numpy.asarray(score(query), dtype=numpy.float64)
        return scores[query]

    if judged.rows:
        dev = DevSet(judged.rows)
        own = [[float(of(row.query)[judged.places[text]]) for text in row.docs] for row in dev.rows]
        result = dev.metrics(own)
        yield Measurement("candidates", result.values, result.queries["nDCG@10"])
    if judged.searches:
        gains = [own for _, own in judged.searches]
        orders = [worst_order(of(query), own) for query, own in judged.searches]
        queries = measure_orders(parse_metrics(_SEARCHED), gains, orders)
        means = {name: sum(values) / len(values) for name, values in queries.items()}
        yield Measurement("search", means, queries["nDCG@10"])


def worst_order(scores: Scores, gains: Mapping[int, float], depth: int = 100) -> list[int]:
    """Positions of the best texts; among equal scores the relevant ones come last."""
    own = numpy.array([gains.get(place, 0.0) for place in range(len(scores))])
    order: list[int] = numpy.lexsort((numpy.arange(len(scores)), own, -scores))[:depth].tolist()
    return order
