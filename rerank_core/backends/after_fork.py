"""After a fork: the child has no thread but the one that forked, so it computes with one and waits for no other.

gunicorn's ``--preload`` and multiprocessing's fork both run a model that the parent loaded. The thread pools of torch
and tokenizers started there, and a child that hands them work waits for ever.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from types import TracebackType

__all__ = ["Lock"]


class Lock:
    """A lock that its holder may take again, and that a forked child finds free whoever held it in the parent."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        _LOCKS.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()

    def renew(self) -> None:
        """Forget who holds it."""
        self._lock = threading.RLock()


_LOCKS: weakref.WeakSet[Lock] = weakref.WeakSet()


def _in_child() -> None:
    for lock in list(_LOCKS):
        lock.renew()
    # tokenizers reads this at every call. Whatever was asked of the parent, its threads are not here.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
