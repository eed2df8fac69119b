"""``rerank train check``: finds faults in training data before training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from rerank_core import InputError
from rerank_core.cli.shared import AsJson, Encoding, emit_json, show, table
from rerank_core.progress import bar
from rerank_trainers.checks.checked_data import CheckedData, open_and_check
from rerank_trainers.checks.report import KINDS, Report
from rerank_trainers.cli.data_flags import LabelRange, Objective, OnErrorFlag, ScoresAreFlag, Settings, data_settings
from rerank_trainers.config.limits import check_settings
from rerank_trainers.config.parse import parse_config, read_config, set_values
from rerank_trainers.config.recipes import merge_configs
from rerank_trainers.config.schema import Config
from rerank_trainers.objectives.required_data import DefaultObjective, ObjectiveInfo, check_needs

__all__ = ["check"]


_LISTED = 1000


def check(
    data: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="DATA...", help="Files (JSON, CSV, TSV, Parquet; also .gz and .zst) or quoted glob patterns."
        ),
    ] = None,
    evaluation: Annotated[
        list[str] | None,
        typer.Option(
            "--eval",
            metavar="FILE",
            help="Evaluation data, whose queries and documents must not be in DATA; can be repeated.",
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="Configuration of a run; its data and objective are checked.")
    ] = None,
    objective: Objective = None,
    label_range: LabelRange = None,
    scores_are: ScoresAreFlag = None,
    on_error: OnErrorFlag = None,
    encoding: Encoding = None,
    settings: Settings = None,
    max_query_chars: Annotated[int | None, typer.Option(min=1, help="Warn about queries with more characters.")] = None,
    as_errors: Annotated[
        list[str] | None,
        typer.Option("--error", metavar="KIND", help="Treat this kind of warning as an error; can be repeated."),
    ] = None,
    examples: Annotated[int, typer.Option(min=1, help="Number of locations shown for each kind of problem.")] = 3,
    as_json: AsJson = False,
) -> None:
    """Check training data as training does; exit code 1 if training would refuse it, or if there are errors.

    \b
    Examples:
      rerank train check train.jsonl
      rerank train check "data/*.jsonl" --eval dev.jsonl --label-range 0,3 --objective ranknet
      rerank train check --config run.yaml
      rerank train check train.jsonl --error query-in-eval --error duplicate-row
      rerank train check train.jsonl --json | jq '.problems[] | select(.severity == "error")'

    Flags, --config and --set have the meaning and defaults of `rerank train reranker`. Every row is read and must have
    what the objective needs; without --objective that is bce, which needs labels. `rerank train llm` trains with
    softmax_ce: check its data with --objective softmax_ce. --json lists the first 1000 problems of each kind.
    """
    flags: dict[str, Any] = {"data": data_settings(data, evaluation, label_range, scores_are, on_error, encoding)}
    if objective is not None:
        flags["objective"] = objective
    given = set_values(merge_configs({} if config is None else read_config(config), flags), settings or [])
    with bar(not as_json, "checking") as progress:
        run = parse_config(given)
        check_settings(run, evaluates=bool(run.data.eval))
        objective_info = _objective_of(run) if "objective" in given else DefaultObjective()
        checked = open_and_check(
            run.data,
            max_query=max_query_chars,
            as_errors=frozenset(as_errors or []),
            examples=_LISTED if as_json else examples,
            progress=progress,
        )
    reasons = (_refusal(checked, objective_info, run.train.batch_size), checked.why_no_dev_signal())
    refusals = [reason for reason in reasons if reason]
    bad = bool(checked.report.errors or refusals or checked.dev_errors)
    if as_json:
        reports = {one.name: one.report.to_dict() for one in checked.dev}
        dev = {"eval": reports.get("", reports)} if reports else {}
        emit_json({"schema_version": 1, "ok": not bad, **checked.report.to_dict(), "unfit": refusals, **dev})
    else:
        for one in checked.dev:
            if one.report.counts:
                _show(one.report, f"of the dev set {one.name}".strip())
        _show(checked.report)
        _conclude(checked, refusals)
    raise typer.Exit(1 if bad else 0)


def _objective_of(run: Config) -> ObjectiveInfo:
    # Objectives need torch, which takes seconds to import.
    from rerank_trainers.kinds import kind_of
    from rerank_trainers.loop.prepare import objective_from

    return objective_from(run, kind_of(run.model))


def _refusal(checked: CheckedData, objective_info: ObjectiveInfo, batch_size: int) -> str | None:
    """The reason why training would refuse these rows although each row is valid; None if it would not."""
    rows, signal = checked.rows.drop(checked.report.left_out), checked.report.signal
    # If every row has labels, bce needs no further check of single rows.
    labelled = objective_info.needs == DefaultObjective().needs and signal.labels.rows == signal.rows
    try:
        if len(rows) and not labelled:
            check_needs(objective_info, rows, checked.data.group_size)
    except InputError as error:
        return str(error)
    return checked.why_no_signal(objective_info.needs, batch_size)


def _show(report: Report, which: str = "") -> None:
    for name, counts in (("source", report.sources), ("format", report.formats)):
        show(
            table(
                [f"{name} {which}".strip(), "rows"],
                [(key, f"{count:,}") for key, count in counts.items()],
                right=["rows"],
            )
        )
        typer.echo()
    counts = {name: count for name, count in report.texts.to_dict().items() if count}
    show(
        table(
            [f"texts {which}".strip(), "count"],
            [(key.replace("_", " "), f"{count:,}") for key, count in counts.items()],
            right=["count"],
        )
    )
    typer.echo()
    ordered = sorted(report.counts, key=lambda kind: (report.severity(kind), -report.counts[kind], kind))
    if ordered:
        rows = [(report.severity(kind), kind, f"{report.counts[kind]:,}", KINDS[kind][1]) for kind in ordered]
        show(table(["", f"problem {which}".strip(), "count", "meaning"], rows, right=["count"], wrap=["meaning"]))
        typer.echo()
        locations = [(p.kind, f"{p.file}:{p.line}", p.message) for kind in ordered for p in report.problems_of(kind)]
        show(table(["problem", "location", "message"], locations, wrap=["location", "message"]))
        typer.echo()


def _conclude(checked: CheckedData, refusals: list[str]) -> None:
    dev = [(one.report, f"dev rows of {one.name}" if one.name else "dev rows") for one in checked.dev]
    for report, which in (*dev, (checked.report, "rows")):
        bad = len(report.error_rows)
        counted = f"{report.rows:,} {which}: {report.errors:,} errors in {bad:,} of them, {report.warnings:,} warnings."
        typer.echo(f"{counted} {_outcome(checked, refusals) if report is checked.report else ''}".rstrip())


def _outcome(checked: CheckedData, refusals: list[str]) -> str:
    report, dev_errors = checked.report, checked.dev_errors
    # Errors first: a misspelled key may be the reason why all labels are equal.
    if (report.errors or dev_errors) and report.on_error == "error":
        return "Training would stop; --on-error drop or warn would let it continue."
    left = report.rows - len(report.left_out)
    if left and refusals:
        return f"Training would stop: {'; '.join(refusals)}."
    if not report.errors and not dev_errors:
        return "Training would accept these rows."
    if not left:
        return f"Training would stop: with on_error={report.on_error} no row is left."
    return f"With on_error={report.on_error} training would continue with {left:,} rows."
