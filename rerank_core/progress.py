"""How far a long call is: the callback that says so, and a progress bar on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

__all__ = ["Progress", "bar", "silent"]


class Progress(Protocol):
    """Called as work goes on, with what is done and what there is in all; may raise to stop the work."""

    def __call__(self, done: int, total: int) -> None: ...


def silent(done: int, total: int) -> None:
    """The progress of a call that nobody watches."""


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
