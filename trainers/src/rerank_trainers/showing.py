"""A run on the terminal: a progress bar and a line for each log, on stderr, so that stdout stays for results."""

from __future__ import annotations

from typing import Any

import transformers
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ["Display"]

_SHOWN = ("loss", "grad_norm", "learning_rate", "score_spread")


class Display(transformers.TrainerCallback):  # type: ignore[misc]
    """Shows steps, losses and dev metrics; of several processes only the first does."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._task: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        if not state.is_world_process_zero:
            return
        columns = (
            TextColumn("training"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"),
            TimeRemainingColumn(), TextColumn("{task.fields[last]}"),
        )  # fmt: skip
        self._progress = Progress(*columns, console=Console(stderr=True))
        self._task = self._progress.add_task("training", total=state.max_steps, completed=state.global_step, last="")
        self._progress.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        if self._progress is not None:
            self._progress.update(self._task, completed=state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **more: Any) -> None:
        if self._progress is None or not logs:
            return
        if "loss" in logs:
            told = "  ".join(f"{name} {logs[name]:.4g}" for name in _SHOWN if name in logs)
            self._progress.update(self._task, last=f"loss {logs['loss']:.4g}")
            self._progress.console.print(f"step {state.global_step}  {told}", highlight=False, soft_wrap=True)
        elif found := {name: value for name, value in logs.items() if name.startswith("eval_")}:
            told = "  ".join(f"{name.removeprefix('eval_')} {value:.4f}" for name, value in found.items())
            self._progress.console.print(f"step {state.global_step}  dev  {told}", highlight=False, soft_wrap=True)

    def on_train_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
