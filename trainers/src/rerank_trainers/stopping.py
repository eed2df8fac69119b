"""Reasons to stop early: Ctrl-C, and a model that says the same of everything."""

from __future__ import annotations

import logging
import signal
import threading
from typing import Any

import transformers

__all__ = ["CollapseWatch", "Interrupt"]

_LOG = logging.getLogger("rerank_trainers")


class Interrupt(transformers.TrainerCallback):  # type: ignore[misc]
    """Ctrl-C ends training after the step that is under way, with a checkpoint; a second one ends it at once."""

    def __init__(self) -> None:
        self.asked = False
        self._before: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._ask)

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> Any:
        if self.asked:
            control.should_save = control.should_training_stop = True
        return control

    def on_train_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self._restore()

    def _ask(self, number: int, frame: Any) -> None:
        self.asked = True
        self._restore()
        _LOG.warning("interrupted: the step under way is finished and saved; once more ends it at once")

    def _restore(self) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None


class CollapseWatch(transformers.TrainerCallback):  # type: ignore[misc]
    """Stops a run whose scores no longer differ within a query, which never recovers: the loss then stays at that of a
    constant (ln 2 for bce, ln k for a softmax over k documents).

    Args:
        logs: in a row that must look so.
        spread: standard deviation of a query's scores below which they are alike.
    """

    def __init__(self, logs: int = 10, spread: float = 1e-4) -> None:
        self.logs, self.spread, self._alike = logs, spread, 0

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **more: Any) -> Any:
        found = (logs or {}).get("score_spread")
        if found is None:
            return control
        self._alike = self._alike + 1 if found < self.spread else 0
        if self._alike >= self.logs:
            _LOG.error(
                "collapsed: for %d logs in a row the scores of a query's documents lay within %g of each other. "
                "Training stops; the best checkpoint is kept. Lower train.learning_rate, or warm up longer",
                self.logs,
                self.spread,
            )
            control.should_training_stop = True
        return control
