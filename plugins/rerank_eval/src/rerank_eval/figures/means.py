"""Means over sets, each of which counts the same."""

from __future__ import annotations

from dataclasses import dataclass

from rerank_core.measures import Interval, interval_over_sets
from rerank_eval.figures.evaluation import Evaluation, Kind
from rerank_eval.figures.query_values import measured

__all__ = ["Mean", "means_over_sets"]


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


def means_over_sets(evaluation: Evaluation, *, seed: int = 0) -> list[Mean]:
    """The mean over sets of each model, of the first stage, and of the floors and the ceiling, the best first.

    The interval is a bootstrap in which the queries of each set are drawn from that set alone.
    """
    metric = evaluation.metrics[0]
    names = list(dict.fromkeys((row.kind, row.name if row.kind == "model" else row.kind) for row in evaluation.rows))
    means = []
    for kind, name in names:
        own = {row.set: row for row in evaluation.rows if row.kind == kind and (kind != "model" or row.name == name)}
        missing = tuple(one.name for one in evaluation.sets if one.name not in own or not own[one.name].figures)
        if missing:
            means.append(Mean(name, kind, None, missing))
            continue
        if len(own) == 1:
            means += [Mean(name, kind, row.figures[metric]) for row in own.values()]
            continue
        figure = interval_over_sets([measured(row.per_query[metric]) for row in own.values()], seed=seed)
        means.append(Mean(name, kind, figure))
    return sorted(means, key=lambda mean: -mean.figure.mean if mean.figure else 1.0)
