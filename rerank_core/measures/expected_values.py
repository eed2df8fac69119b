"""Expected values of metrics over all orders of a query's candidates, each as likely as any other."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from rerank_core.measures.mean_average_precision import CUTOFF, MAP, MAP_AT_1000
from rerank_core.measures.metrics import parse_metrics
from rerank_core.measures.query_values import UNJUDGED

__all__ = ["expectation"]

Expectation: TypeAlias = Callable[[Mapping[Any, float], Sequence[Any]], float]
"""From the gain of each judged document of a query, and its candidates, one or more."""


@dataclass(frozen=True)
class _Counts:
    """Candidates, relevant ones among them, relevant documents of the query."""

    size: int
    found: int
    total: int

    @classmethod
    def of(cls, gains: Mapping[Any, float], candidates: Sequence[Any]) -> _Counts:
        relevant = {doc for doc, gain in gains.items() if math.floor(gain + 0.5) > 0}
        return cls(len(candidates), sum(doc in relevant for doc in candidates), len(relevant))


def expectation(name: str) -> Expectation | None:
    """The expected value of a metric as a function of a query; None for a metric without a formula here.

    Raises:
        InputError: an unknown metric.
    """
    if name == MAP:
        return lambda gains, docs: _average_precision(_Counts.of(gains, docs), None, among_candidates=True)
    if name == MAP_AT_1000:
        return lambda gains, docs: _average_precision(_Counts.of(gains, docs), CUTOFF)
    if UNJUDGED.fullmatch(name):
        return lambda gains, docs: sum(doc not in gains for doc in docs) / len(docs)
    (measure,) = parse_metrics([name])
    cutoff: int | None = measure.params.get("cutoff")
    if measure.NAME not in _FORMULAS or set(measure.params) - {"cutoff"}:
        return None
    formula = _FORMULAS[measure.NAME]
    return lambda gains, docs: formula(gains, docs, cutoff)


def _average_precision(counts: _Counts, cutoff: int | None, *, among_candidates: bool = False) -> float:
    """A place holds a relevant document with probability found / size; each other place then does so with probability
    (found - 1) / (size - 1)."""
    other = (counts.found - 1) / (counts.size - 1) if counts.size > 1 else 0.0
    places = range(1, min(cutoff or counts.size, counts.size) + 1)
    mean = counts.found / counts.size * sum((1 + (place - 1) * other) / place for place in places)
    return mean / (counts.found if among_candidates else counts.total)


def _reciprocal_rank(counts: _Counts, cutoff: int | None) -> float:
    value, none_before = 0.0, 1.0
    for place in range(1, min(cutoff or counts.size, counts.size) + 1):
        left = counts.size - place + 1
        value += none_before * counts.found / left / place
        none_before *= (left - counts.found) / left
    return value


def _ndcg(gains: Mapping[Any, float], docs: Sequence[Any], cutoff: int | None) -> float:
    mean = sum(max(0.0, gains.get(doc, 0.0)) for doc in docs) / len(docs)
    best = sorted((max(0.0, gain) for gain in gains.values()), reverse=True)[:cutoff]
    ideal = sum(gain / math.log2(place + 2) for place, gain in enumerate(best))
    return mean * sum(1 / math.log2(place + 2) for place in range(len(docs[:cutoff]))) / ideal


def _success(counts: _Counts, cutoff: int | None) -> float:
    places = range(min(cutoff or counts.size, counts.size))
    return 1 - math.prod((counts.size - counts.found - at) / (counts.size - at) for at in places)


def _found(counts: _Counts, cutoff: int | None) -> float:
    """Relevant documents above the cutoff."""
    return counts.found / counts.size * min(cutoff or counts.size, counts.size)


def _recall(counts: _Counts, cutoff: int | None) -> float:
    return _found(counts, cutoff) / counts.total


_FORMULAS: dict[str, Callable[[Mapping[Any, float], Sequence[Any], int | None], float]] = {
    "AP": lambda gains, docs, cutoff: _average_precision(_Counts.of(gains, docs), cutoff),
    "RR": lambda gains, docs, cutoff: _reciprocal_rank(_Counts.of(gains, docs), cutoff),
    "nDCG": _ndcg,
    "R": lambda gains, docs, cutoff: _recall(_Counts.of(gains, docs), cutoff),
    "P": lambda gains, docs, cutoff: _found(_Counts.of(gains, docs), cutoff) / (cutoff or len(docs)),
    "Success": lambda gains, docs, cutoff: _success(_Counts.of(gains, docs), cutoff),
    "Judged": lambda gains, docs, cutoff: sum(doc in gains for doc in docs) / len(docs),
}
