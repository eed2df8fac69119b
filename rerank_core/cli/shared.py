"""What the commands of plugins share with those of the core: options, output, progress.

A command raises the errors of `rerank_core`, which become one line on stderr and exit code 1, and `typer.Exit(1)` where
the result that it has printed means failure.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rerank_core.cli.options import (
    AsJson,
    Device,
    Dtype,
    Encoding,
    LongDocs,
    MaxLength,
    ModelOptions,
    Threads,
    TokenBudget,
    load_options,
)
from rerank_core.cli.output import emit_json, logged_warnings, note, show, table, warn

__all__ = [
    "AsJson",
    "Device",
    "Dtype",
    "Encoding",
    "LongDocs",
    "MaxLength",
    "ModelOptions",
    "Threads",
    "TokenBudget",
    "emit_json",
    "load_options",
    "logged_warnings",
    "note",
    "progress_over",
    "show",
    "table",
    "warn",
]

Item = TypeVar("Item")


def progress_over(items: Iterable[Item], what: str, done: int, total: int) -> Iterator[Item]:
    """The items, with a progress bar and the time left on stderr where that is a terminal.

    Args:
        what: the label beside the bar.
        done: number of items that were done before.
    """
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(items, what, total=total, completed=done, console=Console(stderr=True), transient=True)
