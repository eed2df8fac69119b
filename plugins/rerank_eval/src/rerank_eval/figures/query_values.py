"""A metric's value for every query of a set."""

from __future__ import annotations

from collections.abc import Sequence

from rerank_core.measures import QueryValues, measure_scores
from rerank_eval.sets.judged_set import JudgedQuery, JudgedSet

__all__ = ["aligned", "gains_of", "measured", "values_of_scores"]


def values_of_scores(
    judged: JudgedSet, scores: Sequence[Sequence[float]], metrics: Sequence[str]
) -> dict[str, tuple[float | None, ...]]:
    """For each metric ``[queries]``: its value, and None for a query that the metric leaves out (`measure_scores`).

    Equal scores count in the worst order, and the ideal order has all judged documents (`JudgedQuery.others`).

    Args:
        scores: ``[queries][candidates]``; empty for a query that failed, whose value is 0.
    """
    # Which queries a metric leaves out does not depend on the scores.
    given = [
        dict(enumerate(own)) if own else dict.fromkeys(range(len(query.candidates)), 0.0)
        for query, own in zip(judged.queries, scores, strict=True)
    ]
    values = measure_scores(metrics, [gains_of(query) for query in judged.queries], given)
    return {
        name: tuple(
            0.0 if value is not None and not own else value
            for value, own in zip(aligned(one, len(judged.queries)), scores, strict=True)
        )
        for name, one in values.items()
    }


def gains_of(query: JudgedQuery) -> dict[int, float]:
    """The gain of each judged document, by position; judged documents that are no candidates come after them."""
    gains = {at: one.gain for at, one in enumerate(query.candidates) if one.gain is not None}
    return gains | dict(enumerate(query.others.values(), start=len(query.candidates)))


def aligned(values: QueryValues, count: int) -> tuple[float | None, ...]:
    """``[count]``: the value of each query, None where it is left out."""
    found: list[float | None] = [None] * count
    for at, value in zip(values.queries, values.values, strict=True):
        found[at] = value
    return tuple(found)


def measured(values: Sequence[float | None]) -> list[float]:
    """The values without those of queries that the metric leaves out."""
    return [value for value in values if value is not None]
