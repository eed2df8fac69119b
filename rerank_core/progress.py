"""`Progress`, the callback by which a long call reports how far it is, and a progress bar on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

__all__ = ["Progress", "bar", "silent"]


class Progress(Protocol):
    """Called during the work, with the units done and their total number; may raise to stop the work."""

    def __call__(self, done: int, total: int) -> None: ...


def silent(done: int, total: int) -> None:
    """A `Progress` that shows nothing."""


@contextmanager
def bar(wanted: bool, what: str = "passages") -> Iterator[Progress]:
    """A `Progress` that draws a bar; it draws nothing where ``wanted`` is False or stderr is no terminal.

    Args:
        what: the label beside the bar: the unit or the work.
    """
    if not wanted or not sys.stderr.isatty():
        yield silent
        return
    # rich takes about 50 ms to import, so it is imported only to draw.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Display

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Display(*columns, console=Console(stderr=True), transient=True) as display:
        task = display.add_task(what, total=None)

        def show(done: int, total: int) -> None:
            display.update(task, completed=done, total=total)

        yield show
