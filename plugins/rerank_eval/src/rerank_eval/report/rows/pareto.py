"""Quality against latency, and the models that no other one beats in both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rerank_core.measures import Interval
from rerank_eval.figures.evaluation import Row

__all__ = ["Point", "pareto"]


@dataclass(frozen=True, slots=True)
class Point:
    """A model with its median latency.

    Attributes:
        efficient: no model is at least as good and as fast, and better in one of the two.
    """

    name: str
    milliseconds: float
    quality: Interval
    efficient: bool


def pareto(rows: Sequence[Row], metric: str) -> list[Point]:
    """A point for each model with figures and a speed, fastest first."""
    timed = [
        (row, row.speed.median_ms, row.figures[metric])
        for row in rows
        if row.kind == "model" and row.speed and row.figures
    ]
    points = []
    for row, ms, quality in sorted(timed, key=lambda one: (one[1], -one[2].mean)):
        beaten = any(
            other is not row
            and other_ms <= ms
            and other_quality.mean >= quality.mean
            and (other_ms < ms or other_quality.mean > quality.mean)
            for other, other_ms, other_quality in timed
        )
        points.append(Point(row.name, ms, quality, not beaten))
    return points
