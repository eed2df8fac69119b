"""How every command writes: JSON, tables for people, and notes on stderr."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

# rich is imported inside the functions: `--json` and errors are shown without it.
if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["AsJson", "console", "emit_json", "note", "plain", "table", "warn"]

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else there.")]

_UNBOUNDED = 100_000
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def emit_json(data: Mapping[str, Any]) -> None:
    """Write JSON to stdout, in UTF-8 whatever the terminal's encoding; a lone surrogate becomes its JSON escape."""
    text = json.dumps(data, ensure_ascii=False, indent=2)
    typer.echo(text.encode("utf-8", "backslashreplace"))


def note(message: str) -> None:
    """A dim line on stderr."""
    typer.secho(plain(message), err=True, dim=True)


def warn(message: str) -> None:
    """A warning on stderr."""
    typer.secho(f"warning: {plain(message)}", err=True, fg=typer.colors.YELLOW)


def plain(text: str) -> str:
    """``text`` without control characters: a document may not steer the terminal."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def console() -> Console:
    """Stdout: as wide as the terminal, or as wide as its lines where it is a file or a pipe."""
    from rich.console import Console

    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else _UNBOUNDED, highlight=False)


def table(headers: Sequence[str], rows: Sequence[Sequence[str]] = (), *, right: Sequence[str] = ()) -> Table:
    """A table without lines, whose cells are taken literally; columns named in ``right`` are aligned to the right."""
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for header in headers:
        shown.add_column(header, justify="right" if header in right else "left", overflow="fold")
    for row in rows:
        shown.add_row(*(Text(plain(cell)) for cell in row))
    return shown
