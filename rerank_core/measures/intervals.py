"""Confidence intervals of a mean over queries: percentile bootstrap (Efron, 1979), queries drawn with replacement."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rerank_core.errors import InputError
from rerank_core.measures.libraries import needed_for

__all__ = ["Interval", "differences", "interval", "interval_over_sets", "intervals_of", "paired"]

# Numbers drawn at once, to bound memory: a dev set may have tens of thousands of queries.
_BLOCK = 1_000_000


@dataclass(frozen=True)
class Interval:
    """A mean with the bounds of its confidence interval of ``level``."""

    mean: float
    low: float
    high: float
    level: float = 0.95

    def __str__(self) -> str:
        return f"{self.mean:.4f} [{self.low:.4f}, {self.high:.4f}]"


def interval(values: Sequence[float], *, level: float = 0.95, draws: int = 10_000, seed: int = 0) -> Interval:
    """Mean and interval of a metric's values, one per query.

    >>> interval([0.5, 0.5, 0.5])
    Interval(mean=0.5, low=0.5, high=0.5, level=0.95)

    Raises:
        InputError: fewer than two values, or values that are not finite.
    """
    return intervals_of([values], level=level, draws=draws, seed=seed)[0]


def intervals_of(
    series: Sequence[Sequence[float]], *, level: float = 0.95, draws: int = 10_000, seed: int = 0
) -> list[Interval]:
    """`interval` of several series over the same queries; each draw takes the same queries of all.

    Raises:
        InputError: as `interval` does, or series of several lengths.
    """
    with needed_for("confidence intervals"):
        import numpy as np

    count = len(series[0]) if series else 0
    for values in series:
        if len(values) != count or count < 2 or not all(map(math.isfinite, values)):
            raise InputError(f"an interval needs two or more finite values, one a query, and got {len(values)}")
    if not (0 < level < 1 and draws >= 1):
        raise InputError(f"level {level!r} must lie between 0 and 1, and draws {draws!r} be positive")
    columns = np.array(series, dtype=np.float64).T
    random, block, means = np.random.default_rng(seed), max(1, _BLOCK // count), []
    for start in range(0, draws, block):
        size = min(block, draws - start)
        places = random.integers(0, count, (size, count)) + count * np.arange(size)[:, None]
        # How often each draw takes each query, so that one product makes the means of all series.
        taken = np.bincount(places.ravel(), minlength=size * count).reshape(size, count)
        means.append(taken @ columns / count)
    bounds = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2], axis=0)
    return [
        Interval(float(mean), float(low), float(high), level)
        for mean, low, high in zip(columns.mean(axis=0), *bounds, strict=True)
    ]


def interval_over_sets(
    sets: Sequence[Sequence[float]], *, level: float = 0.95, draws: int = 10_000, seed: int = 0
) -> Interval:
    """The mean of the means of several sets of queries, each of which counts the same, and its interval: a draw takes
    the queries of each set from that set.

    >>> interval_over_sets([[0.0, 0.0, 0.0, 0.0], [1.0, 1.0]])
    Interval(mean=0.5, low=0.5, high=0.5, level=0.95)

    Args:
        sets: the values of each set, one per query.

    Raises:
        InputError: no set, fewer than two values in one, or values that are not finite.
    """
    if not sets:
        raise InputError("an interval over sets needs the values of one set or more")
    if len(sets) == 1:
        return interval(sets[0], level=level, draws=draws, seed=seed)
    with needed_for("confidence intervals"):
        import numpy as np

    alone = [interval(values, level=level, draws=1) for values in sets]  # checks them
    random, drawn = np.random.default_rng(seed), np.zeros(draws)
    for values in sets:
        column, block = np.asarray(values, dtype=np.float64), max(1, _BLOCK // len(values))
        for start in range(0, draws, block):
            size = min(block, draws - start)
            places = random.integers(0, len(column), (size, len(column)))
            drawn[start : start + size] += column[places].mean(axis=1)
    low, high = np.quantile(drawn / len(sets), [(1 - level) / 2, (1 + level) / 2])
    return Interval(sum(one.mean for one in alone) / len(sets), float(low), float(high), level)


def paired(
    before: Sequence[float], after: Sequence[float], *, level: float = 0.95, draws: int = 10_000, seed: int = 0
) -> Interval:
    """Mean and interval of the difference ``after - before`` on the same queries.

    Raises:
        InputError: not the same number of values, fewer than two, or values that are not finite.
    """
    return interval(differences(before, after), level=level, draws=draws, seed=seed)


def differences(before: Sequence[float], after: Sequence[float]) -> list[float]:
    """``after - before`` for each query.

    Raises:
        InputError: as `paired` does.
    """
    if len(before) != len(after):
        raise InputError(f"{len(before)} values before and {len(after)} after are not of the same queries")
    result = [new - old for old, new in zip(before, after, strict=True)]
    if len(result) < 2 or not all(map(math.isfinite, result)):
        raise InputError(f"a difference needs two or more finite values, one a query, and got {len(result)}")
    return result
