"""Rank fusion of two models against the better one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean

from rerank_core.measures import Interval, intervals_of
from rerank_eval.figures.query_values import measured, values_of_scores
from rerank_eval.sets.judged_set import JudgedSet

__all__ = ["Fusion", "K", "fuse_pairs", "reciprocal_ranks"]

K = 60
"""The constant of Cormack, Clarke & Büttcher (2009)."""


@dataclass(frozen=True, slots=True)
class Fusion:
    """Two models fused.

    Attributes:
        figure: mean of the metric of the fused order, with the bounds of its interval.
        better: the one of the two with the higher mean.
        difference: of the fused order to the better model, on the same queries.
    """

    first: str
    second: str
    figure: Interval
    better: str
    difference: Interval


def reciprocal_ranks(scores: Sequence[Sequence[float]], k: int = K) -> list[float]:
    """Reciprocal rank fusion of several score lists of one query: ``sum of 1 / (k + rank)``; rank 1 is best.

    Equal scores share the worst of their ranks, so that no list says more than it knows.

    >>> reciprocal_ranks([[3.0, 2.0, 1.0], [0.0, 5.0, 0.0]], k=0)
    [1.3333333333333333, 1.5, 0.6666666666666666]
    """
    from scipy.stats import rankdata

    ranks = [rankdata([-score for score in own], method="max").tolist() for own in scores]
    return [sum(1 / (k + rank) for rank in of_one) for of_one in zip(*ranks, strict=True)]


def fuse_pairs(
    judged: JudgedSet,
    scores: Mapping[str, Sequence[Sequence[float]]],
    metric: str,
    *,
    k: int = K,
    level: float = 0.95,
    seed: int = 0,
) -> list[Fusion]:
    """Fuse each pair of models, the best result first.

    Args:
        scores: for each model ``[queries][candidates]`` of all queries; empty where a call failed. Where one model
            failed, the other one's order is the fused one.
        level: of the intervals.
    """
    alone = {name: measured(values_of_scores(judged, own, [metric])[metric]) for name, own in scores.items()}
    fusions = []
    for first, second in combinations(scores, 2):
        fused = [
            reciprocal_ranks(both, k) if (both := [one for one in pair if one]) else []
            for pair in zip(scores[first], scores[second], strict=True)
        ]
        values = measured(values_of_scores(judged, fused, [metric])[metric])
        better = max((first, second), key=lambda name: fmean(alone[name]))
        above = [one - other for one, other in zip(values, alone[better], strict=True)]
        figure, difference = intervals_of([values, above], level=level, seed=seed)
        fusions.append(Fusion(first, second, figure, better, difference))
    return sorted(fusions, key=lambda fusion: -fusion.figure.mean)
