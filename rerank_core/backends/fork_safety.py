"""Makes a loaded model usable in a forked child process, which has no thread except the one that forked.

gunicorn's ``--preload`` and multiprocessing's fork use a model that the parent loaded. The thread pools of torch and
tokenizers exist only in the parent; a child that gave them work would wait forever, so it computes with one thread.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from types import TracebackType

__all__ = ["Lock", "forked"]


class Lock:
    """A reentrant lock that is free in a forked child, even if a thread of the parent held it."""

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
        """Release the lock, whichever thread holds it."""
        self._lock = threading.RLock()


_LOCKS: weakref.WeakSet[Lock] = weakref.WeakSet()


_FORKED = False


def forked() -> bool:
    """Whether this process is a fork of one that had imported this module."""
    return _FORKED


def _in_child() -> None:
    global _FORKED
    _FORKED = True
    for lock in list(_LOCKS):
        lock.renew()
    # tokenizers reads this variable at every call. The parent's value does not apply: its threads do not exist here.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
