"""Output of all commands: JSON and tables on stdout, notes and warnings on stderr."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import typer

# rich is imported inside the functions, because --json and errors do not need it.
if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

__all__ = [
    "emit_json",
    "logged_warnings",
    "note",
    "printable",
    "show",
    "suppress_write_errors",
    "table",
    "terminal_width",
    "warn",
]

_UNLIMITED_WIDTH = 100_000
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def emit_json(data: Mapping[str, Any]) -> None:
    """Write JSON to stdout, always in UTF-8; lone surrogates are escaped."""
    text = json.dumps(data, ensure_ascii=False, indent=2)
    typer.echo(text.encode("utf-8", "backslashreplace"))


def suppress_write_errors() -> contextlib.suppress:
    """Ignore errors of writing a message, such as a full disk or a closed pipe."""
    return contextlib.suppress(OSError, ValueError)


def note(message: str) -> None:
    """Print a dim line on stderr."""
    with suppress_write_errors():
        typer.secho(printable(message), err=True, dim=True)


def warn(message: str) -> None:
    """Print a warning on stderr."""
    with suppress_write_errors():
        typer.secho(f"warning: {printable(message)}", err=True, fg=typer.colors.YELLOW)


@contextlib.contextmanager
def logged_warnings() -> Iterator[None]:
    """Print on stderr, as `warn` does, what the library logs as a warning while the block runs."""
    # Imported here because the other commands do not need it.
    import logging

    class Printer(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            warn(record.getMessage())

    logger, printer = logging.getLogger("rerank_core"), Printer(logging.WARNING)
    logger.addHandler(printer)
    try:
        yield
    finally:
        logger.removeHandler(printer)


def printable(text: str) -> str:
    """``text`` with control characters replaced, so that a document cannot send escape sequences to the terminal."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def terminal_width() -> int | None:
    """Width of the terminal in columns; None if stdout is a file or a pipe, whose lines are not limited."""
    from rich.console import Console

    return Console(file=sys.stdout).width if sys.stdout.isatty() else None


def show(renderable: RenderableType) -> None:
    """Print a renderable of rich on stdout."""
    from rich.console import Console

    width = terminal_width()
    if width is not None:
        Console(file=sys.stdout, highlight=False).print(renderable)
        return
    screen = Console(file=sys.stdout, width=_UNLIMITED_WIDTH, highlight=False)
    with screen.capture() as captured:
        screen.print(renderable)
    # rich pads the last cell to the width of its column; strip the trailing spaces.
    lines = captured.get().splitlines()
    typer.echo("\n".join(line.rstrip() for line in lines), color=True)


def table(
    headers: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[str] = (), wrap: Sequence[str] = ()
) -> Table:
    """A table without borders; markup in cells is not interpreted.

    Args:
        right: headers of the columns that are aligned to the right.
        wrap: headers of the columns that may wrap on a narrow terminal.
    """
    from rich.table import Table
    from rich.text import Text

    result = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for header in headers:
        justify: Literal["left", "right"] = "right" if header in right else "left"
        result.add_column(header, justify=justify, no_wrap=header not in wrap, overflow="fold")
    for row in rows:
        result.add_row(*(Text(printable(cell)) for cell in row))
    return result
