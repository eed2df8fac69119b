"""`submit`: two threads for the batches of one GPU, so that one prepares a batch while the GPU computes another's.

A thread that waits for scores does not hold Python's lock. Both put their work in the GPU's default queue, whose
kernels run one after the other. The token budget of the device is divided between them.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from rerank_core.backends.fork_safety import Lock
from rerank_core.backends.torch.workers import pool

__all__ = ["COUNT", "submit"]

_T = TypeVar("_T")

COUNT = 2
"""Threads of a GPU, for all calls of all models on it."""

_LOCK = Lock()
_threads: dict[str, ThreadPoolExecutor] = {}


def submit(work: Callable[[], _T], device: str) -> Future[_T]:
    """Let one of the device's threads run ``work``."""
    with _LOCK:
        if device not in _threads:
            _threads[device] = ThreadPoolExecutor(COUNT, f"rerank-{device}", pool.mark_as_worker)
        threads = _threads[device]
    try:
        return threads.submit(work)
    except RuntimeError as error:
        return pool.here_at_exit(work, error)
