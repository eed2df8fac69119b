"""`StolenCores`: whether other work of the machine takes a core from a team of threads."""

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
# Switches a second. Beside one busy process two threads were switched off 125 to 240 times a second, on an idle machine
# about 30 times.
_SHARED = 90.0
# Seconds for which a finding holds. One thread alone is not switched off, so only a team can find that cores are free.
_HOLDS = 2.0


def involuntary_switches() -> int:
    """How often the system took a core from a thread of this process that had work left."""
    return 0 if resource is None else int(resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw)


class StolenCores:
    """Counts how often the threads of teams were switched off.

    Args:
        switches: the count so far; it only grows.
        clock: seconds.
    """

    def __init__(
        self, switches: Callable[[], int] = involuntary_switches, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._switches, self._clock = switches, clock
        self._seconds, self._count = 0.0, 0
        self._shared = False
        self._until = -1.0

    @property
    def found(self) -> bool:
        """Whether a team would now wait for a core that computes something else."""
        return self._clock() < self._until

    @contextmanager
    def observe(self) -> Iterator[None]:
        """Observe a team while the block runs."""
        began, count = self._clock(), self._switches()
        try:
            yield
        finally:
            now = self._clock()
            self._seconds += now - began
            self._count += self._switches() - count
            if self._seconds >= _JUDGED_AFTER:
                before, self._shared = self._shared, self._count > _SHARED * self._seconds
                # Twice in a row, because the start of a team's threads looks the same once.
                if self._shared and before:
                    self._until = now + _HOLDS
                self._seconds, self._count = 0.0, 0
