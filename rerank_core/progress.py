"""A progress bar on stderr, for whoever asks, where a terminal shows it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rerank_core.pipeline import Progress, silent

__all__ = ["bar"]


@contextmanager
def bar(wanted: bool) -> Iterator[Progress]:
    """A progress callback that draws a bar, or draws nothing if unwanted or if stderr is no terminal."""
    if not wanted or not sys.stderr.isatty():
        yield silent
        return
    # rich takes about 50 ms to import, which nobody pays who draws nothing.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Display

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Display(*columns, console=Console(stderr=True), transient=True) as display:
        task = display.add_task("passages", total=None)

        def show(done: int, total: int) -> None:
            display.update(task, completed=done, total=total)

        yield show
