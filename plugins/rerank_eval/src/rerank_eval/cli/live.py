"""Live progress on a terminal: which model ranks which set, and how long the rest takes."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rerank_core.cli.shared import note, warn
from rerank_eval.runs.model_choice import ModelChoice
from rerank_eval.sets.judged_set import JudgedSet

__all__ = ["Live", "live"]


class Live:
    """A `Watcher`: a bar where there is a display, and lines about what went wrong."""

    def __init__(self, total: int, display: Any = None) -> None:
        self._display, self._total = display, total
        self._task = None if display is None else display.add_task("loading", total=total)
        self._said: set[tuple[str, str]] = set()
        self.kept = self.done = 0

    def loading(self, model: str) -> None:
        self._show(f"loading {model}")

    def ranked(self, model: str, judged: str, *, kept: bool) -> None:
        self.kept += kept
        self.done += 1
        # A kept query takes no time: it shortens the rest instead of speeding the bar up.
        self._total -= kept
        self._show(f"{model} · {judged}", advance=not kept)

    def ended(self, model: str, judged: str, left: int, reason: str | None) -> None:
        self._total -= left
        self._show(f"{model} · {judged}")
        if reason is not None and (model, reason) not in self._said:
            self._said.add((model, reason))
            warn(f"{model}: {reason}")

    def warn(self, model: str, message: str) -> None:
        warn(f"{model}: {message}")

    def _show(self, description: str, *, advance: bool = False) -> None:
        if self._display is not None:
            self._display.update(self._task, description=description, total=self._total, advance=advance)


@contextmanager
def live(choices: Sequence[ModelChoice], sets: Sequence[JudgedSet], results: str) -> Iterator[Live]:
    """Watch a run; a bar is drawn where stderr is a terminal. After an interruption a note says how to go on."""
    total = len(choices) * sum(len(judged.queries) for judged in sets)
    watcher = Live(total)
    try:
        with _display() as display:
            watcher = Live(total, display)
            yield watcher
    except BaseException:
        if watcher.done:
            note(f"every ranking so far is kept in {results}; repeat the command to go on from there")
        raise
    if watcher.kept:
        note(f"{watcher.kept} rankings were in {results} already, and were not computed again")


@contextmanager
def _display() -> Iterator[Any]:
    """A bar above which warnings are printed; None where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    # rich takes 50 ms to import, so it is imported only to draw.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("queries, left:"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as display:
        yield display
