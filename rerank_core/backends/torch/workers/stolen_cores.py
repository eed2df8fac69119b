"""`StolenCores`: whether other work of the machine takes a core from a team of two threads."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

try:
    import resource
except ImportError:  # Windows counts no switches; a team is always used there
    resource = None  # type: ignore[assignment]

__all__ = ["StolenCores", "involuntary_switches"]

# Seconds of a team's work after which it is judged: a core that is shared changes hands every 2 to 4 milliseconds.
_JUDGED_AFTER = 0.1
# Beside one busy process two threads were switched off 125 to 240 times a second and got 1.0 to 1.55 cores; on an idle
# machine 0 to 60 times, and more at their start, and they got 1.8 to 2.1.
_SWITCHES = 90.0
_CORES = 1.65
# Seconds for which a finding holds. One thread alone is not switched off, so only a team can find that cores are free.
_HOLDS = 2.0


def involuntary_switches() -> int:
    """How often the system took a core from a thread of this process that had work left."""
    return 0 if resource is None else int(resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw)


class StolenCores:
    """Counts how often the two threads of a team were switched off, and how much processor time they got.

    Args:
        switches: the number of times so far; it only grows.
        clock: seconds.
        processor: the process's seconds of processor time.
    """

    def __init__(
        self,
        switches: Callable[[], int] = involuntary_switches,
        clock: Callable[[], float] = time.perf_counter,
        processor: Callable[[], float] = time.process_time,
    ) -> None:
        self._switches, self._clock, self._processor = switches, clock, processor
        self._seconds, self._processor_seconds, self._count = 0.0, 0.0, 0
        self._until = -1.0

    @property
    def found(self) -> bool:
        """Whether a team would now wait for a core that computes something else."""
        return self._clock() < self._until

    @contextmanager
    def observe(self) -> Iterator[None]:
        """Observe a team while the block runs."""
        began, processor, count = self._clock(), self._processor(), self._switches()
        try:
            yield
        finally:
            now = self._clock()
            self._seconds += now - began
            self._processor_seconds += self._processor() - processor
            self._count += self._switches() - count
            if self._seconds >= _JUDGED_AFTER:
                starved = self._processor_seconds < _CORES * self._seconds
                if starved and self._count > _SWITCHES * self._seconds:
                    self._until = now + _HOLDS
                self._seconds, self._processor_seconds, self._count = 0.0, 0.0, 0
