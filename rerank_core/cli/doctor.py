"""``rerank doctor``: runs the checks of `rerank_core.doctor` and prints them."""

from __future__ import annotations

from typing import Annotated

import typer

from rerank_core.cli.options import AsJson
from rerank_core.cli.output import emit_json, printable, show
from rerank_core.doctor import Check, examine
from rerank_core.plugins.isolation import stdout_to_stderr

__all__ = ["doctor"]

_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def doctor(
    model: Annotated[
        str | None,
        typer.Argument(metavar="MODEL", help="Also load this model, downloading it if needed, and rank with it."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check the installation; exit code 1 if a check fails.

    \b
    Examples:
      rerank doctor
      rerank doctor mini
      rerank doctor --json | jq '.checks[] | select(.status != "ok")'
    """
    with stdout_to_stderr():
        checks = examine(model)
    ok = all(check.status != "fail" for check in checks)
    if as_json:
        emit_json({"schema_version": 1, "ok": ok, "checks": [check.to_dict() for check in checks]})
    else:
        _show(checks)
    raise typer.Exit(0 if ok else 1)


def _show(checks: list[Check]) -> None:
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2, 0, 0))
    for check in checks:
        detail = Text(printable(check.detail), overflow="fold")
        if check.fix:
            detail.append(f"\nfix: {printable(check.fix)}", "bold")
        grid.add_row(Text(check.status, _STYLES[check.status]), Text(printable(check.name), no_wrap=True), detail)
    show(grid)
    counts = (f"{sum(check.status == status for check in checks)} {status}" for status in _STYLES)
    show(Text(", ".join(counts), "dim"))
