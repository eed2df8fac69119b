"""`submit`: threads that compute batches side by side on the CPU, each with one thread of torch's own.

torch divides each operation among a team of threads, which wait for each other at its end: where one core is busy with
something else, the whole team waits at every operation. Batches of one thread each wait for nothing. A batch that is
alone is still computed by a team, except on two cores of which other work takes one: there one thread is faster.

The threads are the process's: all calls of all models share them, so that calls from many threads do not oversubscribe
the cores.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

from rerank_core.backends.fork_safety import Lock, forked
from rerank_core.backends.torch.workers.cpu_quota import cpu_quota
from rerank_core.backends.torch.workers.stolen_cores import StolenCores
from rerank_core.errors import InputError

__all__ = ["here_at_exit", "mark_as_worker", "may_wait", "submit", "thread_count"]

_T = TypeVar("_T")

# A team of two that loses a core to other work takes twice as long or more, one thread at most twice as long. In
# place of a larger team one thread would be slower still.
_PAIR = 2

_HERE = threading.local()
_LOCK = Lock()


def may_wait() -> bool:
    """Whether this thread may wait for workers. A forked child has none, and work that asks for workers itself would
    wait for itself."""
    return not forked() and not getattr(_HERE, "computes", False)


def mark_as_worker() -> None:
    """Say that this thread computes batches."""
    _HERE.computes = True


def thread_count(threads: int | None) -> int:
    """The number of threads that compute for a call of this thread.

    Args:
        threads: the number that the user gave to ``load``; by default ``RERANK_THREADS``, else torch's number in the
            calling thread (which follows ``OMP_NUM_THREADS`` and ``torch.set_num_threads``), at most what the process's
            CPU quota allows unless ``OMP_NUM_THREADS`` is set.

    Raises:
        InputError: ``RERANK_THREADS`` is no positive integer.
    """
    if not may_wait():
        return 1
    if threads is not None:
        return threads
    if given := os.environ.get("RERANK_THREADS"):
        if not given.strip().isdecimal() or int(given) < 1:
            raise InputError(f"RERANK_THREADS is {given!r}; it must be a positive integer")
        return int(given)
    own = torch.get_num_threads()
    quota = None if os.environ.get("OMP_NUM_THREADS") else cpu_quota()
    return own if quota is None else min(own, quota)


def submit(work: Callable[[], _T], threads: int, *, alone: bool) -> Future[_T]:
    """Let the process's workers run ``work`` for a call that may use ``threads`` threads.

    Args:
        alone: it may take all threads as a team, unless a worker is computing already. The team is the calling
            thread's own where that has ``threads`` threads; then the work is done when this function returns.
    """
    try:
        pool = _pool(threads)
    except RuntimeError as error:
        return here_at_exit(work, error)
    return pool.submit(work, threads, alone=alone)


class _Pool:
    """Workers of one thread each, and for batches that are alone one worker with a team."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._single = ThreadPoolExecutor(size, "rerank-worker")
        self._team = ThreadPoolExecutor(1, "rerank-team")
        self._state = threading.Condition()
        self._active = 0
        self._team_runs = False
        self._stolen = StolenCores()
        met = threading.Barrier(size)  # each worker prepares itself once

        def prepare() -> None:
            mark_as_worker()
            _take(1)
            met.wait()

        try:
            preparing = [self._single.submit(prepare) for _ in range(size)]
        except RuntimeError as error:
            met.abort()
            self._single.shutdown(wait=False)
            if _at_exit(error):
                raise
            raise InputError(
                f"threads is {size}, and the system starts no more threads ({error}); lower threads= or RERANK_THREADS"
            ) from error
        for prepared in preparing:
            prepared.result()
        self._team.submit(mark_as_worker).result()

    def submit(self, work: Callable[[], _T], threads: int, *, alone: bool) -> Future[_T]:
        with self._state:
            as_team = alone and self._active == 0 and not (threads == _PAIR and self._stolen.found)
            self._active += 1
            self._team_runs = self._team_runs or as_team
            counted = True

        def ended() -> None:
            nonlocal counted
            with self._state:
                if not counted:
                    return
                counted = False
                self._active -= 1
                if as_team:
                    self._team_runs = False
                    self._state.notify_all()

        def run() -> _T:
            # Counted before the caller gets the result, so that its next batch may be alone again.
            try:
                if as_team:
                    _take(threads)
                    with self._stolen.observe():
                        return work()
                with self._state:
                    self._state.wait_for(lambda: not self._team_runs)
                return work()
            finally:
                ended()

        try:
            if as_team and torch.get_num_threads() == threads:
                return _done(run)
            future = (self._team if as_team else self._single).submit(run)
        except RuntimeError as error:
            ended()
            return here_at_exit(work, error)
        except BaseException:  # Ctrl-C: work that never runs must not count as running
            ended()
            raise
        future.add_done_callback(lambda done: ended() if done.cancelled() else None)
        return future


def _at_exit(error: RuntimeError) -> bool:
    """Whether a pool refused work because the main thread has ended: Python's pools take none then, while other
    threads of the user still run."""
    return "shutdown" in str(error)


def here_at_exit(work: Callable[[], _T], error: RuntimeError) -> Future[_T]:
    """Run ``work`` in the calling thread where pools take none any more; raise any other error."""
    if not _at_exit(error):
        raise error
    return _done(work)


def _done(work: Callable[[], _T]) -> Future[_T]:
    """Run ``work`` here: a second team in the process would make the OpenMP threads of both sleep at every barrier."""
    future: Future[_T] = Future()
    _HERE.computes = True
    try:
        future.set_result(work())
    except Exception as error:  # noqa: BLE001 -- the caller raises it
        future.set_exception(error)
    finally:
        _HERE.computes = False
    return future


def _take(threads: int) -> None:
    """Let operations of this thread use so many threads. New threads get the number that was set last, in whatever
    thread, so the process's number is set again."""
    with _LOCK:
        # A thread takes the process's number when it first asks for its own, even if one was set for it before.
        if torch.get_num_threads() != threads:
            default = _in_new_thread(torch.get_num_threads)
            torch.set_num_threads(threads)
            _in_new_thread(lambda: torch.set_num_threads(default))


def _in_new_thread(work: Callable[[], _T]) -> _T:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


_MAKING = Lock()
_POOL: _Pool | None = None


def _pool(threads: int) -> _Pool:
    """The process's pool, replaced by a larger one where a call may use more threads than it has."""
    global _POOL
    with _MAKING:
        if _POOL is None or _POOL.size < threads:
            _POOL = _Pool(threads)
        return _POOL
