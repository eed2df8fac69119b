"""The table of a set: a line for each model, the first stage, the floors and the ceiling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rerank_eval.figures.evaluation import Evaluation, Row
from rerank_eval.report.labels import Labels
from rerank_eval.report.visible import visible
from rerank_eval.report.wording import bounds, count, milliseconds, share, short_count, storage, value

__all__ = ["FIXED", "Cell", "Line", "Table", "table_of"]

FIXED = ("random", "BM25", "oracle")
"""Kinds of rows that no one would use: floors and the ceiling."""

_STOPPED = {"budget": "too slow, stopped", "crashed": "crashed", "failed": "failed"}


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell; ``sort`` is the number by which its column sorts, None for an empty cell."""

    text: str
    sort: float | None = None
    small: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """A row; ``letter`` and ``css`` are empty for rows that are no models. Floors and the ceiling are ``fixed``: they
    stay below the sorted rows."""

    name: str
    kind: str
    letter: str
    css: str
    cells: tuple[Cell, ...]
    best: bool = False
    fixed: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    columns: tuple[str, ...]
    lines: tuple[Line, ...]


def table_of(evaluation: Evaluation, name: str, labels: Labels) -> Table:
    """The table of the set ``name``, best first. A column that no row fills is left out."""
    rows = evaluation.rows_of(name)
    leader = next((row for row in rows if row.kind == "model" and row.figures), None)
    columns: list[tuple[str, Callable[[Row], Cell]]] = [
        *((metric, _metric(metric, at == 0)) for at, metric in enumerate(evaluation.metrics)),
        ("latency", lambda row: _time(row.speed.median_ms if row.speed else None)),
        ("p95 latency", lambda row: _time(row.speed.p95_ms if row.speed else None)),
        ("tokens/s", lambda row: _number(row.speed.tokens_per_second if row.speed else None, short_count)),
        ("memory", lambda row: _number(row.run.facts.peak_bytes if row.run else None, storage)),
        ("parameters", lambda row: _number(row.run.facts.parameters if row.run else None, short_count)),
        ("cost of 1,000", lambda row: _number(row.speed.cost_per_1000 if row.speed else None, _price)),
        (
            "cut texts",
            lambda row: Cell(share(row.truncated), row.truncated) if row.run and row.figures else Cell(""),
        ),
        ("failed queries", lambda row: _number(row.failed or None, count)),
        ("judged in the top", lambda row: _judged(row)),
    ]
    cells = [[make(row) for row in rows] for _, make in columns]
    filled = [at for at, column in enumerate(cells) if any(cell.text for cell in column)]
    if evaluation.judged_share.get(name, 1.0) >= 1:
        filled = [at for at in filled if columns[at][0] != "judged in the top"]
    lines = [
        Line(
            name=visible(row.name),
            kind=_kind(row),
            letter=labels.letters[row.name] if row.kind == "model" else "",
            css=labels.css(row.name) if row.kind == "model" else "",
            cells=tuple(cells[at][number] for at in filled),
            best=row is leader,
            fixed=row.kind in FIXED,
        )
        for number, row in enumerate(rows)
    ]
    return Table(tuple(columns[at][0] for at in filled), tuple(lines))


def _kind(row: Row) -> str:
    if row.run is not None and row.run.stopped is not None:
        return _STOPPED[row.run.stopped] + (f": {visible(row.run.reason)}" if row.run.reason else "")
    return {
        "model": "",
        "first stage": "what models must improve on",
        "random": "floor",
        "BM25": "floor",
        "oracle": "ceiling: the best order of these candidates",
    }[row.kind]


def _metric(metric: str, first: bool) -> Callable[[Row], Cell]:
    def cell(row: Row) -> Cell:
        figure = row.figures.get(metric)
        return Cell(value(figure.mean), figure.mean, bounds(figure) if first else "") if figure else Cell("")

    return cell


def _time(ms: float | None) -> Cell:
    return Cell("") if ms is None else Cell(milliseconds(ms), ms)


def _number(number: float | None, form: Callable[[float], str]) -> Cell:
    return Cell("") if number is None else Cell(form(number), number)


def _judged(row: Row) -> Cell:
    return Cell("") if row.judged is None else Cell(share(row.judged), row.judged)


def _price(cost: float) -> str:
    return f"{cost:.3g}" if cost < 100 else f"{cost:,.0f}"
