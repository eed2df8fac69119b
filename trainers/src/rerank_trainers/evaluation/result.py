"""`Result`: the metrics of a model on a dev set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["Result"]


@dataclass(frozen=True)
class Result:
    """Metrics of a model on a dev set.

    Attributes:
        values: mean of each metric.
        queries: for each metric its value for each query, in the order of the rows.
        scored: (raw score, grade) of all documents, for calibration.
    """

    values: Mapping[str, float]
    queries: Mapping[str, Sequence[float]]
    scored: Sequence[tuple[float, int]] = field(repr=False, default=())
