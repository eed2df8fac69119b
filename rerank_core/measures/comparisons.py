"""Comparisons of models on the same queries: a randomisation test, Holm's correction, and the queries still needed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist, stdev

from rerank_core.errors import InputError
from rerank_core.measures.intervals import Interval, differences, intervals_of
from rerank_core.measures.libraries import needed_for

__all__ = ["Comparison", "compare", "holm", "queries_needed", "randomisation_test"]

# Numbers drawn at once, to bound memory.
_BLOCK = 1_000_000


@dataclass(frozen=True)
class Comparison:
    """Two models on the same queries.

    Attributes:
        difference: mean of the values of ``second`` minus those of ``first``, with its interval.
        p: two-sided p-value of the randomisation test.
        adjusted: the p-value after Holm's correction for all pairs that were compared together.
        more_queries: number of further queries like these with which the test would find this difference with a
            probability of 80 %; 0 where these are enough, None where there is no difference to find.
    """

    first: str
    second: str
    difference: Interval
    p: float
    adjusted: float
    more_queries: int | None


def compare(
    values: Mapping[str, Sequence[float]], *, level: float = 0.95, draws: int = 10_000, seed: int = 0
) -> list[Comparison]:
    """Compare every pair of models.

    Args:
        values: for each model, a metric's value for each query, the queries in one order.

    Raises:
        InputError: other numbers of queries, fewer than two, or values that are not finite.
        MissingDependencyError: the extra ``eval`` is not installed.
    """
    pairs = list(combinations(values, 2))
    if not pairs:
        return []
    gains = [differences(values[one], values[two]) for one, two in pairs]
    bounds = intervals_of(gains, level=level, draws=draws, seed=seed)
    p_values = _p_values(gains, draws, seed)
    result = []
    for (one, two), gain, bound, p, adjusted in zip(pairs, gains, bounds, p_values, holm(p_values), strict=True):
        needed = queries_needed(gain, level=level)
        more = None if needed is None else max(0, needed - len(gain))
        result.append(Comparison(one, two, bound, p, adjusted, more))
    return result


def randomisation_test(before: Sequence[float], after: Sequence[float], *, draws: int = 10_000, seed: int = 0) -> float:
    """Two-sided p-value of the mean difference, if the sign of each query's difference were chance (Fisher, 1935;
    Smucker et al., 2007). Exact where ``2 ** queries`` is at most ``draws``.

    >>> randomisation_test([0.1, 0.2, 0.3], [0.2, 0.4, 0.6])
    0.25

    Raises:
        InputError: not the same number of values, fewer than two, or values that are not finite.
    """
    return _p_values([differences(before, after)], draws, seed)[0]


def _p_values(gains: Sequence[Sequence[float]], draws: int, seed: int) -> list[float]:
    """The p-value of each list of differences, all over the same queries, by the same flips of their signs."""
    with needed_for("tests of significance"):
        import numpy as np

    columns = np.array(gains, dtype=np.float64).T
    count = len(columns)
    # A sum that equals the observed one but for its rounding is as large as it.
    observed = np.abs(columns.sum(axis=0)) - 1e-12 * np.abs(columns).sum(axis=0)
    exact = count < 63 and 2**count <= draws
    total, random = 2**count if exact else draws, np.random.default_rng(seed)
    block, extreme = max(1, _BLOCK // count), np.zeros(len(gains), dtype=np.int64)
    for start in range(0, total, block):
        size = min(block, total - start)
        if exact:
            flips = ((np.arange(start, start + size)[:, None] >> np.arange(count)) & 1).astype(np.float64)
        else:
            bits = np.frombuffer(random.bytes(size * -(-count // 8)), dtype=np.uint8).reshape(size, -1)
            flips = np.unpackbits(bits, axis=1, count=count).astype(np.float64)
        extreme += (np.abs(columns.sum(axis=0) - 2 * (flips @ columns)) >= observed).sum(axis=0)
    # The order at hand is one of the equally likely ones, so a drawn p-value is never 0 (Phipson & Smyth, 2010).
    return [(one / total if exact else (one + 1) / (total + 1)) for one in extreme.tolist()]


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number (Holm, 1979).

    >>> holm([0.04, 0.01, 0.03])
    [0.06, 0.03, 0.06]
    """
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, at in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, p_values[at] * (len(p_values) - rank)))
        adjusted[at] = highest
    return adjusted


def queries_needed(difference: Sequence[float], *, power: float = 0.8, level: float = 0.95) -> int | None:
    """Number of queries with which a two-sided paired test at ``level`` finds a mean difference as large as this one
    with a probability of ``power``: ``((z(power) + z((1 + level) / 2)) * deviation / mean) ** 2``.

    >>> queries_needed([0.1, -0.1, 0.3, 0.1])
    21

    Args:
        difference: of two models on each query that there is; its mean is taken for the true one.

    Returns:
        2 or more, or None where the mean difference is 0 but for rounding.

    Raises:
        InputError: fewer than two differences, or values that are not finite; a level or power outside (0, 1).
    """
    if len(difference) < 2 or not all(map(math.isfinite, difference)):
        raise InputError(f"two or more finite differences are needed, one a query, and there are {len(difference)}")
    if not (0 < power < 1 and 0 < level < 1):
        raise InputError(f"power {power!r} and level {level!r} must lie between 0 and 1")
    mean = sum(difference) / len(difference)
    if abs(mean) <= 1e-12 * max(map(abs, difference)):
        return None
    z = NormalDist().inv_cdf(power) + NormalDist().inv_cdf((1 + level) / 2)
    return max(2, math.ceil((z * stdev(difference) / mean) ** 2))
