"""``rerank train check``: what is wrong with training data, before a GPU is asked."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Annotated

import typer

from rerank_core.cli.output import AsJson, emit_json, show, table
from rerank_core.records.labels import LabelScale
from rerank_trainers.checking import CheckOptions
from rerank_trainers.checking import check as check_rows
from rerank_trainers.problems import KINDS, Report
from rerank_trainers.store import open_rows

__all__ = ["check"]


_LISTED = 1000


class OnError(str, Enum):
    """What training does with rows that have errors."""

    error = "error"
    drop = "drop"
    warn = "warn"


class ScoresAre(str, Enum):
    """What ``pos_scores`` and ``neg_scores`` are."""

    teacher = "teacher"
    labels = "labels"


def check(
    data: Annotated[
        list[str], typer.Argument(metavar="DATA...", help="Files (.jsonl, .tsv, .parquet), and patterns in quotes.")
    ],
    evaluation: Annotated[
        list[str] | None,
        typer.Option("--eval", metavar="FILE", help="Data to evaluate on, which these must not hold; can be repeated."),
    ] = None,
    on_error: Annotated[
        OnError, typer.Option(help="What training would do: stop, drop rows with errors, or drop only unusable ones.")
    ] = OnError.error,
    label_range: Annotated[
        str | None,
        typer.Option(metavar="LOW,HIGH", help=f"Labels outside are errors; or {', '.join(LabelScale.NAMED)}."),
    ] = None,
    max_query_chars: Annotated[int | None, typer.Option(min=1, help="Warn of longer queries.")] = None,
    scores_are: Annotated[
        ScoresAre, typer.Option(help="What pos_scores and neg_scores are: a teacher's, or graded labels.")
    ] = ScoresAre.teacher,
    as_errors: Annotated[
        list[str] | None,
        typer.Option("--error", metavar="KIND", help="Take a kind of warning as an error; can be repeated."),
    ] = None,
    examples: Annotated[int, typer.Option(min=1, help="Places shown of each kind of problem.")] = 3,
    as_json: AsJson = False,
) -> None:
    """Check training data; exit code 1 if there are errors.

    \b
    Examples:
      rerank train check train.jsonl
      rerank train check "data/*.jsonl" --eval dev.jsonl --label-range 0,3
      rerank train check train.jsonl --error query-in-eval --error duplicate-row
      rerank train check train.jsonl --json | jq '.problems[] | select(.severity == "error")'

    Every row is read once, in whichever format it is. With --json the first 1000 problems of each kind are listed.
    """
    options = CheckOptions(
        label_scale=None if label_range is None else LabelScale.of(label_range),
        max_query=max_query_chars,
        on_error=on_error.value,
        as_errors=frozenset(as_errors or []),
        examples=_LISTED if as_json else examples,
    )
    with _bar("opening", not as_json) as progress:
        store = open_rows(data, scores_are=scores_are.value, progress=progress)
        eval_store = open_rows(evaluation, scores_are=scores_are.value) if evaluation else None
    with _bar("checking", not as_json) as progress:
        report = check_rows(store, options, eval_store, progress)
    if as_json:
        emit_json({"schema_version": 1, "ok": not report.errors, **report.to_dict()})
    else:
        _show(report)
    raise typer.Exit(1 if report.errors else 0)


def _show(report: Report) -> None:
    for name, counts in (("source", report.sources), ("format", report.formats)):
        show(table([name, "rows"], [(key, f"{count:,}") for key, count in counts.items()], right=["rows"]))
        typer.echo()
    ordered = sorted(report.counts, key=lambda kind: (report.severity(kind), -report.counts[kind], kind))
    if ordered:
        rows = [(report.severity(kind), kind, f"{report.counts[kind]:,}", KINDS[kind][1]) for kind in ordered]
        show(table(["", "problem", "count", "what"], rows, right=["count"], wrap=["what"]))
        typer.echo()
        places = [(p.kind, f"{p.file}:{p.line}", p.message) for kind in ordered for p in report.of(kind)]
        show(table(["problem", "where", "first of them"], places, wrap=["where", "first of them"]))
        typer.echo()
    bad = len(report.error_rows)
    found = f"{report.rows:,} rows: {report.errors:,} errors in {bad:,} of them, {report.warnings:,} warnings."
    typer.echo(f"{found} {_outcome(report)}")


def _outcome(report: Report) -> str:
    if not report.errors:
        return "Fit to train on."
    if report.on_error == "error":
        return "Training would stop; --on-error drop or warn says what else it could do."
    left = report.rows - len(report.left_out)
    return f"With on_error={report.on_error} training would go on with {left:,} rows."


@contextmanager
def _bar(what: str, wanted: bool) -> Iterator[Callable[[int, int], None] | None]:
    if not wanted or not sys.stderr.isatty():
        yield None
        return
    # rich is slow to import, which nobody pays who draws nothing.
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as display:
        task = display.add_task(what, total=None)
        yield lambda done, total: display.update(task, completed=done, total=total)
