"""The table of models by set, with the means over sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rerank_eval.figures.evaluation import Evaluation, Row
from rerank_eval.figures.means import Mean, means_over_sets
from rerank_eval.report.sections import Section
from rerank_eval.report.table import FIXED, Cell
from rerank_eval.report.wording import bounds, tie_rule, value

__all__ = ["Overview", "OverviewLine", "overview_of"]


@dataclass(frozen=True, slots=True)
class OverviewLine:
    """A model, the first stage, or a ``fixed`` one, a floor or the ceiling: its mean over sets, then its figure of each
    set and whether it is the best model there."""

    name: str
    kind: str
    cells: tuple[tuple[Cell, bool], ...]
    fixed: bool = False


@dataclass(frozen=True, slots=True)
class Overview:
    """The sets side by side, and what the numbers are."""

    basis: str
    lines: tuple[OverviewLine, ...]


def overview_of(evaluation: Evaluation, sections: Sequence[Section]) -> Overview:
    """The means over several sets, and the figures of each."""
    metric = evaluation.metrics[0]
    basis = (
        f"{metric}; bold: the best model of the set; [ ]: 95 % bootstrap interval, queries drawn within each set; "
        f"{tie_rule(metric)}. Each set counts the same in the mean."
    )
    return Overview(basis, tuple(_line(evaluation, sections, mean) for mean in means_over_sets(evaluation)))


def _line(evaluation: Evaluation, sections: Sequence[Section], mean: Mean) -> OverviewLine:
    metric = evaluation.metrics[0]
    total = (
        (Cell(value(mean.figure.mean), mean.figure.mean, bounds(mean.figure)), False)
        if mean.figure
        else (Cell("", None, f"no figure of {len(mean.missing)}"), False)
    )
    cells = [total]
    for section in sections:
        row = next((row for row in section.rows if _is(row, mean) and row.figures), None)
        best = row is not None and row is section.answer.leader
        figure = row.figures[metric] if row else None
        cells.append((Cell(value(figure.mean), figure.mean, bounds(figure)) if figure else Cell(""), best))
    return OverviewLine(mean.name, mean.kind, tuple(cells), mean.kind in FIXED)


def _is(row: Row, mean: Mean) -> bool:
    return row.kind == mean.kind and (row.kind != "model" or row.name == mean.name)
