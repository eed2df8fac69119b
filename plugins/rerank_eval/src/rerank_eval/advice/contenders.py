"""The models of an evaluation, and its first stage, over all sets: means, times, and comparisons of each pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from rerank_core.measures import Interval, compare, interval_over_sets
from rerank_eval.figures.evaluation import Evaluation, Row
from rerank_eval.figures.query_values import measured

__all__ = ["Contender", "Pair", "contenders_of", "differences_of", "pairs_of", "weighted"]


@dataclass(frozen=True)
class Contender:
    """A model, or the first stage, with figures on every set.

    Attributes:
        rows: by set.
        by_set: ``[sets][queries]``: the first metric.
        median_ms: on its slowest set; 0 for the first stage, which has run anyway.
    """

    name: str
    kind: Literal["model", "first stage"]
    rows: Mapping[str, Row]
    by_set: tuple[tuple[float, ...], ...]
    median_ms: float

    @property
    def mean(self) -> float:
        """Mean over sets, each of which counts the same."""
        return fmean(map(fmean, self.by_set))

    @property
    def values(self) -> tuple[float, ...]:
        """``[queries of all sets]``: the values, weighted so that their mean is the mean over sets."""
        return weighted(self.by_set)

    def above(self, other: Contender) -> list[list[float]]:
        """``[sets][queries]``: the values less those of another contender."""
        return [differences_of(*both) for both in zip(self.by_set, other.by_set, strict=True)]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two contenders on the same queries.

    Attributes:
        difference: mean of ``first - second`` with the bounds of its interval.
        p_corrected: of the randomisation test after Holm's correction for all pairs.
    """

    difference: Interval
    p_corrected: float


def weighted(by_set: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """The values of all sets, weighted so that their mean is the mean of the sets' means.

    >>> weighted([[1.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
    (1.5, 0.0, 0.75, 0.0, 0.0, 0.0)
    """
    total = sum(map(len, by_set))
    return tuple(value * total / (len(own) * len(by_set)) for own in by_set for value in own)


def differences_of(first: Sequence[float], second: Sequence[float]) -> list[float]:
    """``first - second`` of each query."""
    return [one - other for one, other in zip(first, second, strict=True)]


def contenders_of(evaluation: Evaluation) -> list[Contender]:
    """The models with figures on every set, and the first stage if every set has one, which comes first."""
    metric, names = evaluation.metrics[0], [judged.name for judged in evaluation.sets]
    found = []
    first_stages = {row.set: row for row in evaluation.rows if row.kind == "first stage"}
    for name in [None, *evaluation.models]:
        rows = first_stages
        if name is not None:
            rows = {row.set: row for row in evaluation.rows if row.kind == "model" and row.name == name and row.figures}
        if set(rows) != set(names):
            continue
        by_set = tuple(tuple(measured(rows[one].per_query[metric])) for one in names)
        times = [row.speed.median_ms for row in rows.values() if row.speed is not None]
        label = " / ".join(dict.fromkeys(rows[one].name for one in names)) if name is None else name
        found.append(Contender(label, "first stage" if name is None else "model", rows, by_set, max(times, default=0)))
    return found


def pairs_of(evaluation: Evaluation, contenders: Sequence[Contender]) -> dict[tuple[str, str], Pair]:
    """Each ordered pair of contenders; of one set, the comparisons of the evaluation.

    With several sets the interval draws the queries of each set from that set. The randomisation test has the weighted
    values of the queries of all sets: the signs that it changes are those of queries, whose weights do not change.
    """
    pairs: dict[tuple[str, str], Pair] = {}
    if len(evaluation.sets) == 1:
        known = [(one.first, one.second, one.difference, one.p_corrected) for one in evaluation.comparisons]
    else:
        compared = compare({one.name: one.values for one in contenders}) if len(contenders) > 1 else []
        named = {one.name: one for one in contenders}
        known = [
            (one.first, one.second, interval_over_sets(named[one.second].above(named[one.first])), one.adjusted)
            for one in compared
        ]
    for first, second, difference, p in known:
        pairs[second, first] = Pair(difference, p)
        pairs[first, second] = Pair(Interval(-difference.mean, -difference.high, -difference.low, difference.level), p)
    return pairs
