"""Orders of a query's candidates, and the order of the first stage."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from rerank_eval.sets.judged_set import JudgedQuery, JudgedSet

__all__ = ["first_stage_order", "order_of", "scores_of_order"]


def order_of(scores: Sequence[float], gains: Sequence[float]) -> list[int]:
    """Positions of the candidates, best first; equal scores in the worst order.

    >>> order_of([1.0, 2.0, 1.0], gains=[1.0, 0.0, 0.0])
    [1, 2, 0]
    """
    return sorted(range(len(scores)), key=lambda position: (-scores[position], gains[position]))


def scores_of_order(order: Sequence[int]) -> list[float]:
    """``[candidates]``: scores that give this order.

    >>> scores_of_order([1, 2, 0])
    [-2.0, 0.0, -1.0]
    """
    scores = [0.0] * len(order)
    for rank, position in enumerate(order):
        scores[position] = float(-rank)
    return scores


def first_stage_order(judged: JudgedSet) -> Callable[[JudgedQuery], list[int]] | None:
    """A function from a query to its candidates' positions as the first stage ranked them; None without a first stage.

    Where the candidates are shuffled, their scores give the order, equal ones in the worst order, and candidates
    without a score come last.
    """
    if judged.order == "first-stage":
        return lambda query: list(range(len(query.candidates)))
    scores = (one.first_stage for query in judged.queries for one in query.candidates)
    if judged.first_stage is None or all(score is None for score in scores):
        return None
    return lambda query: order_of(
        [-math.inf if one.first_stage is None else one.first_stage for one in query.candidates], query.gains
    )
