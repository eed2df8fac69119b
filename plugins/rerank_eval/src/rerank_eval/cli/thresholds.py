"""``--fail-under METRIC=VALUE``: models whose figures are too low."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from rerank_core import InputError
from rerank_eval.figures.evaluation import Evaluation

__all__ = ["below", "parse_floors"]


def parse_floors(texts: Iterable[str]) -> dict[str, float]:
    """The least value by metric.

    >>> parse_floors(["nDCG@10=0.7"])
    {'nDCG@10': 0.7}

    Raises:
        InputError: the value is missing or no number, or a metric is given twice.
    """
    floors: dict[str, float] = {}
    for text in texts:
        # A metric may have parameters: nDCG(dcg='exp-log2')@10=0.7
        metric, equals, value = text.rpartition("=")
        try:
            floor = float(value) if equals and metric else math.nan
        except ValueError:
            floor = math.nan
        if math.isnan(floor):
            raise InputError(f"--fail-under is {text!r}; it must be METRIC=VALUE, such as nDCG@10=0.7")
        if metric in floors:
            raise InputError(f"--fail-under has {metric!r} twice; give it once")
        floors[metric] = floor
    return floors


def below(evaluation: Evaluation, floors: Mapping[str, float]) -> list[str]:
    """A line for each model that is lower than a floor on a set, or has no figure there."""
    lines = []
    for row in evaluation.rows:
        for metric, floor in floors.items() if row.kind == "model" else ():
            if not row.figures:
                lines.append(f"{row.name} has no {metric} on {row.set}, so it is below {floor:g}")
            elif row.figures[metric].mean < floor:
                lines.append(f"{row.name} is below {metric} {floor:g} on {row.set}: {row.figures[metric].mean:.4f}")
    return lines
