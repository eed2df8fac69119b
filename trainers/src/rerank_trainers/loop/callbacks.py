"""Callbacks of a run: stop at Ctrl-C, stop when scores collapse (measured by `Spread`), show steps on stderr without
the messages of transformers that are not for the user."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Iterator
from typing import Any

import torch
import transformers
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ["CollapseWatch", "Display", "Interrupt", "Spread", "without_known_messages"]

_LOG = logging.getLogger("rerank_trainers")
_SHOWN = ("loss", "grad_norm", "learning_rate", "score_spread")

# Beginnings of messages of `transformers.trainer_utils` that ask nothing of the user.
_KNOWN = (
    # Checkpoints written within a second of each other are ordered by their numbers.
    "mtime may not be reliable",
    # Training reads no ids of special tokens from the config; the tokenizer is published with the weights.
    "The tokenizer has new PAD/BOS/EOS tokens",
)


class Interrupt(transformers.TrainerCallback):  # type: ignore[misc]
    """Ctrl-C ends training after the current step and saves a checkpoint; a second Ctrl-C ends it at once.

    Attributes:
        asked: whether Ctrl-C was pressed in any process.
    """

    def __init__(self) -> None:
        self.asked = False
        self._midway = False
        self._before: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self.asked = self._midway = False
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._ask)

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> Any:
        if args.world_size > 1:
            # The signal may reach one process only; all processes must leave the loop in the same step.
            word = torch.tensor(int(self.asked), device=args.device)
            torch.distributed.all_reduce(word, torch.distributed.ReduceOp.MAX)
            self.asked = bool(word)
        if self.asked:
            self._midway = state.global_step < state.max_steps and not float(state.epoch).is_integer()
            # At the end of an epoch, evaluation and saving happen as usual.
            control.should_save = control.should_save or self._midway or args.save_strategy == "steps"
            control.should_training_stop = True
            if args.save_total_limit == 1:
                args.save_total_limit = 2  # with 1, transformers would delete this checkpoint and keep the best
        return control

    def on_epoch_end(self, args: Any, state: Any, control: Any, **more: Any) -> Any:
        if self._midway:
            # No evaluation in the middle of an epoch: the resumed run would record a metric that an uninterrupted one
            # does not have.
            control.should_evaluate = control.should_save = False
        return control

    def on_train_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self.release()

    def release(self) -> None:
        """Restore the previous handler of Ctrl-C."""
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None

    def _ask(self, number: int, frame: Any) -> None:
        self.asked = True
        self.release()
        _LOG.warning("interrupted: training ends after this step with a checkpoint; a second Ctrl-C ends it at once")


class Spread:
    """Standard deviation of the scores of a query's documents, averaged over queries.

    If every query of a pass has one document, the documents of the pass count as one query.
    """

    def __init__(self) -> None:
        self._sums: list[tuple[float, int]] = []

    def add(self, scores: torch.Tensor, mask: torch.Tensor) -> None:
        """Add a pass: scores and mask, both ``[groups, docs]``."""
        several = mask.sum(1) > 1
        if bool(several.any()):
            scores, mask = scores[several], mask[several]
        else:
            scores, mask = scores[mask][None], mask[mask][None]
        count = mask.sum(1)
        if int(count[0]) < 2:
            return
        mean = (scores * mask).sum(1, keepdim=True) / count[:, None]
        deviations = (((scores - mean) ** 2 * mask).sum(1) / count).sqrt()
        self._sums.append((float(deviations.sum()), len(deviations)))

    def take(self, accelerator: Any) -> float | None:
        """Mean since the last call over all processes, which must all call it; None if nothing was added."""
        total = sum(part for part, _ in self._sums), sum(count for _, count in self._sums)
        self._sums.clear()
        whole, queries = accelerator.reduce(
            torch.tensor(total, dtype=torch.float32, device=accelerator.device)
        ).tolist()
        return whole / queries if queries else None


class CollapseWatch(transformers.TrainerCallback):  # type: ignore[misc]
    """Stops a run whose scores have become equal within each query. Such a run does not recover: its loss stays at that
    of a constant score (ln 2 for bce, ln k for a softmax over k documents).

    Args:
        logs: number of consecutive logs with a spread below ``spread``.
        spread: limit of the standard deviation; see `Spread`.

    Attributes:
        collapsed: whether the run was stopped.
    """

    def __init__(self, logs: int = 10, spread: float = 1e-4) -> None:
        self.logs, self.spread, self._alike = logs, spread, 0
        self.collapsed = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self._alike, self.collapsed = 0, False

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **more: Any) -> Any:
        spread = (logs or {}).get("score_spread")
        if spread is None:
            return control
        self._alike = self._alike + 1 if spread < self.spread else 0
        if self._alike >= self.logs:
            _LOG.error(
                "collapsed: for %d logs in a row the standard deviation of the scores of a query's documents was "
                "below %g. Training stops; the best checkpoint is kept. Lower train.learning_rate, or raise "
                "train.warmup",
                self.logs,
                self.spread,
            )
            self.collapsed = True
            control.should_training_stop = True
        return control


class Display(transformers.TrainerCallback):  # type: ignore[misc]
    """Shows steps, losses and dev metrics on stderr, in the first process only."""

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
            text = "  ".join(f"{name} {logs[name]:.4g}" for name in _SHOWN if name in logs)
            self._progress.update(self._task, last=f"loss {logs['loss']:.4g}")
            self._progress.console.print(f"step {state.global_step}  {text}", highlight=False, soft_wrap=True)
        elif metrics := {name: value for name, value in logs.items() if name.startswith("eval_")}:
            text = "  ".join(f"{name.removeprefix('eval_')} {value:.4f}" for name, value in metrics.items())
            self._progress.console.print(f"step {state.global_step}  dev  {text}", highlight=False, soft_wrap=True)

    def on_train_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def _unknown(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(_KNOWN)


@contextlib.contextmanager
def without_known_messages() -> Iterator[None]:
    """Drop messages of transformers that ask nothing of the user; all others are logged."""
    logger = logging.getLogger("transformers.trainer_utils")
    logger.addFilter(_unknown)
    try:
        yield
    finally:
        logger.removeFilter(_unknown)
