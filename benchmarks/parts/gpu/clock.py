"""`Clock`: divides a limited time among tasks."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

__all__ = ["Clock"]


class Clock:
    """The time of a run.

    Args:
        seconds: in all, from now on.
        now: the seconds of a clock.
    """

    def __init__(self, seconds: float, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._end = now() + seconds

    @property
    def left(self) -> float:
        return max(0.0, self._end - self._now())

    def share(self, weights: Sequence[float]) -> float:
        """Seconds for the next task. What it does not need is divided among those after it.

        Args:
            weights: of the next task and of all tasks after it.
        """
        return self.left * weights[0] / sum(weights)
