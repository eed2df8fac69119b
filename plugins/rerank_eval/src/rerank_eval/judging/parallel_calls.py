"""Calls in parallel, in threads that nothing waits for: an interrupted command ends at once."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

__all__ = ["in_parallel"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def in_parallel(
    call: Callable[[_Item], _Result], items: Sequence[_Item], threads: int
) -> Iterator[tuple[int, _Result]]:
    """Yield ``(position, call(item))`` of each item, each when it is there.

    A caller that stops, such as by Ctrl-C, waits for no call: a pool of `concurrent.futures` waits for those that run,
    and for a server that does not answer these are minutes.

    Raises:
        Exception: that of a call, after which no further call starts.
    """
    todo: queue.SimpleQueue[int] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[int, _Result] | BaseException] = queue.SimpleQueue()
    stopped = threading.Event()

    def work() -> None:
        while not stopped.is_set():
            try:
                at = todo.get_nowait()
            except queue.Empty:
                return
            try:
                done.put((at, call(items[at])))
            except BaseException as error:  # noqa: BLE001 -- raised again where the caller is
                done.put(error)

    for at in range(len(items)):
        todo.put(at)
    for _ in range(min(threads, len(items))):
        threading.Thread(target=work, daemon=True).start()
    try:
        for _ in items:
            found = done.get()
            if isinstance(found, BaseException):
                raise found
            yield found
    finally:
        stopped.set()
