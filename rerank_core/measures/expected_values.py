"""Expected values of metrics over all orders of a query's candidates, each as likely as any other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rerank_core.measures.mean_average_precision import MAP, MAP_AT_1000
from rerank_core.measures.metrics import DocId, parse_metrics
from rerank_core.measures.query_values import UNJUDGED

__all__ = ["expected_value"]


def expected_value(name: str, gains: Mapping[DocId, float], candidates: Sequence[DocId]) -> float | None:
    """The expected value of a metric for one query; None for a metric without a formula here.

    Args:
        gains: the gain of each judged document.

    Raises:
        InputError: an unknown metric.
    """
    size = len(candidates)
    grades = {doc: math.floor(gain + 0.5) for doc, gain in gains.items()}
    found = sum(grades.get(doc, 0) > 0 for doc in candidates)
    total = sum(grade > 0 for grade in grades.values())
    if name == MAP:
        return _average_precision(size, found, found, size)
    if name == MAP_AT_1000:
        return _average_precision(size, found, total, 1000)
    if UNJUDGED.fullmatch(name):
        return sum(doc not in gains for doc in candidates) / size
    (measure,) = parse_metrics([name])
    if set(measure.params) - {"cutoff"}:
        return None
    cutoff = min(size, measure.params.get("cutoff") or size)
    if measure.NAME == "AP":
        return _average_precision(size, found, total, cutoff)
    if measure.NAME == "RR":
        return _reciprocal_rank(size, found, cutoff)
    if measure.NAME == "R":
        return found / size * cutoff / total
    if measure.NAME == "P":
        return found / size * cutoff / int(measure.params["cutoff"])
    if measure.NAME == "Success":
        return 1 - math.prod((size - found - at) / (size - at) for at in range(cutoff))
    if measure.NAME == "Judged":
        return sum(doc in gains for doc in candidates) / size
    if measure.NAME == "nDCG":
        return _ndcg(gains, candidates, cutoff, measure.params.get("cutoff"))
    return None


def _average_precision(size: int, found: int, total: int, cutoff: int) -> float:
    """A place holds a relevant document with probability found / size; each other place then does so with probability
    (found - 1) / (size - 1)."""
    other = (found - 1) / (size - 1) if size > 1 else 0.0
    places = range(1, min(cutoff, size) + 1)
    return found / size * sum((1 + (place - 1) * other) / place for place in places) / total


def _reciprocal_rank(size: int, found: int, cutoff: int) -> float:
    value, none_before = 0.0, 1.0
    for place in range(1, cutoff + 1):
        left = size - place + 1
        value += none_before * found / left / place
        none_before *= (left - found) / left
    return value


def _ndcg(gains: Mapping[DocId, float], candidates: Sequence[DocId], cutoff: int, asked: int | None) -> float:
    mean = sum(max(0.0, gains.get(doc, 0.0)) for doc in candidates) / len(candidates)
    best = sorted((max(0.0, gain) for gain in gains.values()), reverse=True)[:asked]
    ideal = sum(gain / math.log2(place + 2) for place, gain in enumerate(best))
    return mean * sum(1 / math.log2(place + 2) for place in range(cutoff)) / ideal
