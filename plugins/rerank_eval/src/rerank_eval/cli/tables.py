"""The tables of the command: one for each set, and the means over sets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rerank_core.cli.shared import note, show, table, warn
from rerank_eval.figures.evaluation import Evaluation, Row
from rerank_eval.figures.means import means_over_sets
from rerank_eval.sets.judged_set import JudgedSet

if TYPE_CHECKING:
    from rerank_core.measures import Interval

__all__ = ["show_evaluation"]


def show_evaluation(evaluation: Evaluation, *, budget_ms: float | None = None) -> None:
    """Print the tables on stdout; what must be known about the data goes to stderr.

    Args:
        budget_ms: models whose median is above it are marked.
    """
    for judged in evaluation.sets:
        _show_set(evaluation, judged, budget_ms)
    if len(evaluation.sets) > 1:
        metric = evaluation.metrics[0]
        lines = [
            (mean.name, _figure(mean.figure) if mean.figure else f"no figure of {', '.join(mean.missing)}")
            for mean in means_over_sets(evaluation)
            if mean.figure or mean.kind == "model"
        ]
        columns = (f"mean of {len(evaluation.sets)} sets", metric)
        show(table(columns, lines, wrap=columns))


def _show_set(evaluation: Evaluation, judged: JudgedSet, budget_ms: float | None) -> None:
    rows = evaluation.rows_of(judged.name)
    share = evaluation.judged_share.get(judged.name, 1.0)
    columns = [judged.name, *evaluation.metrics]
    if share < 1:
        columns.append("judged")
    columns += ["median ms", "p95 ms", "tokens/s", "memory", "parameters"]
    if evaluation.price_per_hour is not None:
        columns.append("per 1,000")
    lines = [[*_cells(row, evaluation, budget_ms, judged=share < 1)] for row in rows]
    # On a narrow terminal a cell takes several lines, so that no figure is cut.
    show(table(columns, lines, right=columns[1:], wrap=columns))
    for row in rows:
        _say(row, judged)
    floor, ceiling = (
        next(row for row in rows if row.kind == kind).figures[evaluation.metrics[0]].mean
        for kind in ("random", "oracle")
    )
    if floor > ceiling - 1e-9:
        warn(
            f"{judged.name}: every order of the candidates has the same {evaluation.metrics[0]}, because they are "
            "equally relevant; give more candidates (--top), or other labels"
        )
    count = len(judged.queries)
    # The same queries are left out of all rows.
    for metric, values in next(row for row in rows if row.kind == "oracle").per_query.items():
        if left := values.count(None):
            note(f"{judged.name}: {metric} leaves out {left:,} queries, on which no order is better than another")
    note(f"{judged.name}: {count:,} queries; [ ] is the interval of 95 %; equal scores count in the worst order")


def _cells(row: Row, evaluation: Evaluation, budget_ms: float | None, *, judged: bool) -> list[str]:
    first, *others = evaluation.metrics
    if not row.figures:
        cells = [row.name, "dropped" if row.run and row.run.stopped == "budget" else "failed", *("" for _ in others)]
    else:
        cells = [row.name, _figure(row.figures[first]), *(f"{row.figures[name].mean:.3f}" for name in others)]
    if judged:
        cells.append("" if row.judged is None else f"{row.judged:.0%}")
    speed, run = row.speed, row.run
    if speed is None or run is None:
        return [*cells, *[""] * (5 + (evaluation.price_per_hour is not None))]
    over = budget_ms is not None and speed.median_ms > budget_ms
    cells.append(f"{_number(speed.median_ms)}{' (over)' if over else ''}")
    cells.append(_number(speed.p95_ms))
    cells.append("" if speed.tokens_per_second is None else _number(speed.tokens_per_second))
    cells.append("" if run.facts.peak_bytes is None else _size(run.facts.peak_bytes))
    cells.append("" if run.facts.parameters is None else _count(run.facts.parameters))
    if evaluation.price_per_hour is not None:
        cells.append("" if speed.cost_per_1000 is None else f"{speed.cost_per_1000:.4f}")
    return cells


def _say(row: Row, judged: JudgedSet) -> None:
    """Warn about what a figure of the table hides."""
    if row.failed:
        first = next(query.error for query in row.run.queries if query.error) if row.run else None
        count = f"{row.failed} of {len(judged.queries)} queries of {judged.name}"
        warn(f"{row.name} failed on {count}, which count as 0; the first: {first}")
    counts = [query.statistics for query in row.run.queries] if row.run else []
    answers = sum(one.get("windows", 0) for one in counts)
    if malformed := answers - sum(one.get("well_formed", one.get("windows", 0)) for one in counts):
        warn(
            f"{malformed:.0f} of {answers:.0f} answers of {row.name} on {judged.name} are malformed; they were repaired"
        )
    if row.truncated:
        warn(f"{row.name} did not read all of {row.truncated:.1%} of the documents of {judged.name}")


def _figure(figure: Interval) -> str:
    return f"{figure.mean:.3f} [{figure.low:.3f}, {figure.high:.3f}]"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _size(number: int) -> str:
    return f"{number / 1e9:.2f} GB" if number >= 1e9 else f"{number / 1e6:.0f} MB"


def _count(number: int) -> str:
    for unit, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= unit:
            return f"{number / unit:.3g}{letter}"
    return str(number)
