"""How every command writes: JSON, tables for people, and notes on stderr."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import typer

# rich is imported inside the functions: `--json` and errors are shown without it.
if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

__all__ = ["emit_json", "note", "plain", "show", "table", "terminal_width", "unheard", "warn"]

_UNBOUNDED = 100_000
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def emit_json(data: Mapping[str, Any]) -> None:
    """Write JSON to stdout, in UTF-8 whatever the terminal's encoding; a lone surrogate becomes its JSON escape."""
    text = json.dumps(data, ensure_ascii=False, indent=2)
    typer.echo(text.encode("utf-8", "backslashreplace"))


def unheard() -> contextlib.suppress:
    """Go on where a message cannot be written: stderr is on a full disk, or its reader has gone."""
    return contextlib.suppress(OSError, ValueError)


def note(message: str) -> None:
    """A dim line on stderr."""
    with unheard():
        typer.secho(plain(message), err=True, dim=True)


def warn(message: str) -> None:
    """A warning on stderr."""
    with unheard():
        typer.secho(f"warning: {plain(message)}", err=True, fg=typer.colors.YELLOW)


def plain(text: str) -> str:
    """``text`` without control characters: a document may not steer the terminal."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def terminal_width() -> int | None:
    """Columns of the terminal; None where stdout is a file or a pipe, whose lines may be as long as they need."""
    from rich.console import Console

    return Console(file=sys.stdout).width if sys.stdout.isatty() else None


def show(renderable: RenderableType) -> None:
    """Write something of rich's to stdout."""
    from rich.console import Console

    width = terminal_width()
    if width is not None:
        Console(file=sys.stdout, highlight=False).print(renderable)
        return
    screen = Console(file=sys.stdout, width=_UNBOUNDED, highlight=False)
    with screen.capture() as captured:
        screen.print(renderable)
    # Cells are padded to the width of their column, which is of no use at the end of a line.
    lines = captured.get().splitlines()
    typer.echo("\n".join(line.rstrip() for line in lines), color=True)


def table(
    headers: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[str] = (), wrap: Sequence[str] = ()
) -> Table:
    """A table without lines, whose cells are taken literally.

    Args:
        right: columns aligned to the right.
        wrap: columns that may take several lines where the terminal is narrow.
    """
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for header in headers:
        justify: Literal["left", "right"] = "right" if header in right else "left"
        shown.add_column(header, justify=justify, no_wrap=header not in wrap, overflow="fold")
    for row in rows:
        shown.add_row(*(Text(plain(cell)) for cell in row))
    return shown
