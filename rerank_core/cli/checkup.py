"""``rerank doctor``: the checks of `rerank_core.doctor`, shown."""

from __future__ import annotations

from typing import Annotated

import typer

from rerank_core.cli.output import AsJson, console, emit_json, plain
from rerank_core.doctor import Check, examine

__all__ = ["doctor"]

_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def doctor(
    model: Annotated[
        str | None,
        typer.Argument(help="Also load this model and rank with it (downloads what is missing).", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check this installation; exit code 1 if something failed.

    \b
    Examples:
      rerank doctor
      rerank doctor mini
      rerank doctor --json | jq '.checks[] | select(.status != "ok")'
    """
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
    for overflow in ("fold", "fold", "fold"):
        grid.add_column(overflow=overflow)  # type: ignore[arg-type]
    for check in checks:
        detail = Text(plain(check.detail))
        if check.fix:
            detail.append(f"\nfix: {plain(check.fix)}", "bold")
        grid.add_row(Text(check.status, _STYLES[check.status]), Text(plain(check.name)), detail)
    console().print(grid)
    count = {status: sum(check.status == status for check in checks) for status in _STYLES}
    console().print(", ".join(f"{number} {status}" for status, number in count.items()), style="dim")
