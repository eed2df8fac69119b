"""Means over sets, each of which counts the same."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

from rerank_core.measures import Interval
from rerank_eval.figures.evaluation import Evaluation, Kind
from rerank_eval.figures.query_values import measured

__all__ = ["Mean", "means_over_sets"]

_BLOCK = 1_000_000
_DRAWS = 10_000


@dataclass(frozen=True, slots=True)
class Mean:
    """A row's mean over all sets by the first metric.

    Attributes:
        missing: names of the sets of which the row has no figure; then there is no mean, since it would be of other
            sets than those of the other rows.
    """

    name: str
    kind: Kind
    figure: Interval | None
    missing: tuple[str, ...] = ()


def means_over_sets(evaluation: Evaluation, *, level: float = 0.95, seed: int = 0) -> list[Mean]:
    """The mean over sets of each model, of the first stage, and of the floors and the ceiling, the best first.

    The interval is a bootstrap in which the queries of each set are drawn from that set alone.
    """
    import numpy as np

    metric = evaluation.metrics[0]
    names = list(dict.fromkeys((row.kind, row.name if row.kind == "model" else row.kind) for row in evaluation.rows))
    means = []
    for kind, name in names:
        own = {row.set: row for row in evaluation.rows if row.kind == kind and (kind != "model" or row.name == name)}
        missing = tuple(one.name for one in evaluation.sets if one.name not in own or not own[one.name].figures)
        if missing:
            means.append(Mean(name, kind, None, missing))
            continue
        random = np.random.default_rng(seed)
        drawn = np.zeros(_DRAWS)
        for row in own.values():
            values = np.asarray(measured(row.per_query[metric]))
            block = max(1, _BLOCK // len(values))
            drawn += np.concatenate(
                [
                    values[random.integers(0, len(values), (min(block, _DRAWS - start), len(values)))].mean(axis=1)
                    for start in range(0, _DRAWS, block)
                ]
            )
        low, high = np.quantile(drawn / len(own), [(1 - level) / 2, (1 + level) / 2])
        mean = fmean(row.figures[metric].mean for row in own.values())
        means.append(Mean(name, kind, Interval(mean, float(low), float(high), level)))
    return sorted(means, key=lambda mean: -mean.figure.mean if mean.figure else 1.0)
