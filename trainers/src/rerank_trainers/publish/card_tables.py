"""Tables of a model card in Markdown: metrics with their intervals, calibration with a text histogram."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence

from rerank_core import InputError
from rerank_core.measures import (
    CalibrationMap,
    Scored,
    histogram,
    interval,
    paired,
    platt,
    reliability,
    temperature,
)
from rerank_trainers.evaluation.result import Result

__all__ = ["calibration_lines", "measure_lines", "table"]

_WIDTH = 24


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table; cells are escaped.

    >>> table(("a", "b"), [("x|y", "1")])
    ['| a | b |', '| --- | --- |', '| x\\\\|y | 1 |']
    """
    lines = [list(headers), ["---"] * len(headers), *map(list, rows)]
    return ["| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in line) + " |" for line in lines]


def measure_lines(before: Result | None, after: Result) -> list[str]:
    """Each metric before and after training, with the paired difference if the queries are the same."""
    headers = ["measure", *(["before", "after", "difference"] if before is not None else ["value"])]
    rows = []
    for name, value in after.values.items():
        row = [name]
        if before is not None:
            row.append(_measured(before, name))
        row.append(_measured(after, name))
        if before is not None:
            own, others = after.queries.get(name, ()), before.queries.get(name, ())
            if len(own) == len(others) > 1:
                gain = paired(others, own)
                row.append(f"{gain.mean:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]")
            else:
                row.append(f"{value - before.values[name]:+.4f}" if name in before.values else "")
        rows.append(row)
    return table(headers, rows)


def _measured(result: Result, name: str) -> str:
    if name not in result.values:
        return ""
    values = result.queries.get(name, ())
    return str(interval(values)) if len(values) > 1 else f"{result.values[name]:.4f}"


def calibration_lines(scored: Scored, scaling: CalibrationMap | None) -> list[str]:
    """Calibration of the sigmoid of the scores, the fit, and a histogram of scores by label.

    Args:
        scored: raw scores of the trained model.
        scaling: calibration that the published weights contain and ``scored`` does not.
    """
    plain = reliability(scored)
    which = "score as trained" if scaling else "raw score"
    lines = [
        f"Of {plain.documents:,} dev documents, {plain.relevant:,} are relevant.",
        f"The sigmoid of the {which} has an expected calibration error (10 bins) of {plain.ece:.4f}",
        f"and a Brier score of {plain.brier:.4f}.",
    ]
    try:
        fitted = scaling or platt(scored)
    except InputError:
        fitted = None
    if fitted is not None:
        after = reliability(scored, fitted)
        done = "The published weights hold" if scaling else "Platt's fit to these labels is"
        lines.append(
            f"{done} {fitted.scale:.6g} × score {'-' if fitted.offset < 0 else '+'} {abs(fitted.offset):.6g}, with "
            f"which the two figures are {after.ece:.4f} and {after.brier:.4f}, on the labels that it was fitted to."
        )
    # There may be no positive temperature that helps, if most scores have the wrong sign for their label.
    with contextlib.suppress(InputError):
        lines.append(f"The best temperature without an offset is {1 / temperature(scored).scale:.4g}.")
    return ["\n".join(lines), "", "```", *_bars(scored, scaling), "```"]


def _bars(scored: Scored, scaling: CalibrationMap | None) -> list[str]:
    """One line per bin; each label has a bar scale of its own, because relevant documents are few."""
    if scaling is not None:
        scored = [(scaling.logit(score), grade) for score, grade in scored]
    bars = histogram(scored)
    most = [max(1, *(bar.irrelevant for bar in bars)), max(1, *(bar.relevant for bar in bars))]
    digits = max(len(f"{max(most):,}"), len("irrelevant"))
    lines = [f"{'score':>20}  {'irrelevant':>{digits}}  {'':{_WIDTH}}  {'relevant':>{digits}}"]
    for bar in bars:
        drawn = [_bar(count, all_) for count, all_ in zip((bar.irrelevant, bar.relevant), most, strict=True)]
        lines.append(
            f"{bar.low:>9.3f} to {bar.high:>7.3f}  {bar.irrelevant:>{digits},}  {drawn[0]:{_WIDTH}}  "
            f"{bar.relevant:>{digits},}  {drawn[1]}".rstrip()
        )
    return lines


def _bar(count: int, most: int) -> str:
    """A bar with at least one mark for a count above 0."""
    return "█" * (max(1, round(count / most * _WIDTH)) if count else 0)
