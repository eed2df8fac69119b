"""The budget of a query's time: a model that is clearly too slow is dropped after a few queries."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import quantiles

__all__ = ["FEWEST", "too_slow"]

FEWEST = 5
"""Queries that are measured before a model can be dropped."""


def too_slow(seconds: Sequence[float], budget_ms: float | None) -> bool:
    """Whether a model with these times of queries is dropped: three of four took longer than the budget.

    A model whose median is just above the budget runs to the end, so that noise drops nobody; the table marks it.

    >>> too_slow([0.2, 0.2, 0.2, 0.2, 0.01], budget_ms=50)
    True
    >>> too_slow([0.06, 0.06, 0.06, 0.04, 0.04], budget_ms=50)
    False
    """
    if budget_ms is None or len(seconds) < FEWEST:
        return False
    return quantiles(seconds, n=4, method="inclusive")[0] * 1000 > budget_ms
