"""Metrics of scores: each query's documents put in order, worst first among equal scores, and measured.

Equal scores say nothing about an order, so the worst one is measured: less relevant documents first, then the order of
the documents given. Otherwise a model that gives all documents one score would be measured on the order of the file,
which often lists relevant documents first.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rerank_core.errors import InputError
from rerank_core.measures.mean_average_precision import MAP, MAP_AT_1000, average_precision, worst_average_precision
from rerank_core.measures.metrics import DocId, is_linear, measure_orders, parse_metrics

__all__ = ["UNJUDGED", "QueryValues", "measure_scores", "measured_queries", "worst_order"]

UNJUDGED = re.compile(r"unjudged(@\d+)")


@dataclass(frozen=True)
class QueryValues:
    """The values of a metric, one for each query that it can measure.

    Attributes:
        queries: the positions of these queries in the caller's list.
        left_out: number of the other queries.
    """

    values: tuple[float, ...]
    queries: tuple[int, ...]
    left_out: int

    @property
    def mean(self) -> float:
        """The mean over the queries; NaN where all are left out."""
        return sum(self.values) / len(self.values) if self.values else float("nan")


def worst_order(scores: Mapping[DocId, float], gains: Mapping[DocId, float]) -> list[DocId]:
    """Documents by descending score; of equal scores the less relevant first, then the first of the mapping.

    >>> worst_order({1: 0.5, 2: 0.9, 3: 0.5}, {1: 1.0, 2: 0.0})
    [2, 3, 1]

    Args:
        gains: the gain of each judged document; others have none.
    """
    return sorted(scores, key=lambda doc: (-scores[doc], gains.get(doc, 0.0)))


def measure_scores(
    metrics: Sequence[str], gains: Sequence[Mapping[DocId, float]], scores: Sequence[Mapping[DocId, float]]
) -> dict[str, QueryValues]:
    """Each metric of a model's scores, by the name that was asked for.

    ``map`` and ``map_at_1000`` are the definitions of C-MTEB (`mean_average_precision`). ``unjudged@10`` is the share
    of the first 10 documents without a judgement. All others are metrics of ir_measures, such as ``nDCG@10``, ``AP``,
    ``RR@10``, ``R@100`` and ``Judged@10``; the ideal order of nDCG is of all judged documents.

    A query is left out where no order is better than another: without a relevant document (one with a gain of 0.5 or
    more; for nDCG, above 0), and for the two definitions of C-MTEB (as there) also without an irrelevant one among the
    candidates. ``Judged`` and ``unjudged`` leave out none but queries without candidates.

    Args:
        gains: for each query, the gain of each judged document, whether it is a candidate or not.
        scores: for each query, the raw score of each candidate.

    Raises:
        InputError: an unknown metric, other numbers of queries, or a score or gain that is not finite.
        MissingDependencyError: the extra ``eval`` is not installed.
    """
    _check(gains, scores)
    queries = {name: measured_queries(name, gains, scores) for name in metrics}
    result = {}
    of_library: dict[tuple[int, ...], dict[str, Any]] = {}
    for name in metrics:
        if name in (MAP, MAP_AT_1000):
            values = [_average_precision(name, gains[at], scores[at]) for at in queries[name]]
            result[name] = QueryValues(tuple(values), queries[name], len(gains) - len(queries[name]))
        else:
            unjudged = UNJUDGED.fullmatch(name)
            (measure,) = parse_metrics([f"Judged{unjudged[1]}" if unjudged else name])
            of_library.setdefault(queries[name], {})[name] = measure
    for asked, measures in of_library.items():
        orders = [worst_order(scores[at], gains[at]) for at in asked]
        found = measure_orders(list(set(measures.values())), [gains[at] for at in asked], orders) if asked else {}
        for name, measure in measures.items():
            values = found.get(str(measure), [])
            values = [1 - value for value in values] if UNJUDGED.fullmatch(name) else values
            result[name] = QueryValues(tuple(values), asked, len(gains) - len(asked))
    return {name: result[name] for name in metrics}


def measured_queries(
    name: str, gains: Sequence[Mapping[DocId, float]], candidates: Sequence[Collection[DocId]]
) -> tuple[int, ...]:
    """The positions of the queries that a metric measures; see `measure_scores`."""
    if name in (MAP, MAP_AT_1000):
        return tuple(at for at, docs in enumerate(candidates) if len({_relevant(gains[at], doc) for doc in docs}) == 2)
    judges = name.startswith("Judged") or UNJUDGED.fullmatch(name)
    linear = not judges and all(map(is_linear, parse_metrics([name])))
    counts = _has_gain if linear else _relevant_count
    return tuple(at for at, docs in enumerate(candidates) if docs and (judges or counts(gains[at])))


def _check(gains: Sequence[Mapping[DocId, float]], scores: Sequence[Mapping[DocId, float]]) -> None:
    if len(gains) != len(scores):
        raise InputError(f"the judgements are of {len(gains)} queries, and the scores of {len(scores)}")
    for what, rows in (("score", scores), ("gain", gains)):
        for at, row in enumerate(rows):
            for doc, value in row.items():
                if not math.isfinite(value):
                    raise InputError(f"query {at}: the {what} of document {doc!r} is {value!r}; it must be finite")


def _average_precision(name: str, gains: Mapping[DocId, float], scores: Mapping[DocId, float]) -> float:
    own = list(scores.values()), [_relevant(gains, doc) for doc in scores]
    return average_precision(*own) if name == MAP else worst_average_precision(*own, _relevant_count(gains))


def _has_gain(gains: Mapping[DocId, float]) -> bool:
    """Whether a judged document has a gain above 0."""
    return any(gain > 0 for gain in gains.values())


def _relevant_count(gains: Mapping[DocId, float]) -> int:
    """Number of the judged documents that are relevant."""
    return sum(_relevant(gains, doc) for doc in gains)


def _relevant(gains: Mapping[DocId, float], doc: DocId) -> bool:
    """Whether the grade of a document, its gain rounded halves up, is above 0."""
    return gains.get(doc, 0.0) >= 0.5
