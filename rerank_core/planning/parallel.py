"""`compute_all`: runs the batches of a call one after the other, or several at a time by a scorer's workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar, runtime_checkable

from rerank_core.scorer import Scorer

if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = ["Parallel", "Placed", "compute_all", "on_devices", "token_budget", "worker_count"]

_Batch = TypeVar("_Batch")
_Result = TypeVar("_Result")
_T = TypeVar("_T")


@runtime_checkable
class Parallel(Protocol):
    """A scorer that computes several batches at the same time."""

    @property
    def workers(self) -> int:
        """How many, for a call of this thread; with 0 the caller computes one batch after the other itself."""
        ...

    def submit(self, work: Callable[[], _T], *, alone: bool) -> Future[_T]:
        """Let a worker run ``work``, which calls `forward`. ``alone``: the call has nothing else to compute, so that
        all of its workers' cores may serve this batch."""
        ...


@runtime_checkable
class Placed(Protocol):
    """A scorer that knows the devices that it computes on."""

    @property
    def devices(self) -> Sequence[str]:
        """The name of the device of each copy of the model."""
        ...


def worker_count(scorer: object) -> int:
    """How many batches the scorer computes at the same time for a call of this thread."""
    return max(1, scorer.workers) if isinstance(scorer, Parallel) else 1


def token_budget(scorer: Scorer, given: int | None) -> int:
    """Tokens that the scorer computes at the same time: its own number, or ``given`` tokens on each device."""
    if given is None:
        return scorer.token_budget
    return given * (len(set(scorer.devices)) if isinstance(scorer, Placed) else 1)


def on_devices(scorer: object) -> str:
    """The devices that a scorer computes on, as ' on cuda:0, cuda:1'; empty where it does not say."""
    return f" on {', '.join(scorer.devices)}" if isinstance(scorer, Placed) else ""


def compute_all(
    scorer: object,
    batches: Sequence[_Batch],
    compute: Callable[[_Batch], _Result],
    record: Callable[[_Batch, _Result], None],
) -> None:
    """Compute every batch and hand its result to ``record``, which runs in the calling thread.

    With several workers, results are recorded in the order in which they are ready. A call has at most as many batches
    among them as it may use workers, so that it uses no more where there are more, and the calls of several threads
    take turns. After an error, of a batch or of
    ``record``, no further batch begins, and the error is raised when the running ones have ended.

    Args:
        compute: called by a worker.
    """
    workers = scorer.workers if isinstance(scorer, Parallel) else 0
    if not workers or not isinstance(scorer, Parallel):
        for batch in batches:
            record(batch, compute(batch))
        return
    import concurrent.futures  # takes time to import, and a call without workers needs it not

    waiting = list(reversed(batches))
    alone = workers == 1 or len(batches) == 1
    running: dict[Future[_Result], _Batch] = {}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                batch = waiting.pop()
                running[scorer.submit(partial(compute, batch), alone=alone)] = batch
            ready, _ = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
            for future in ready:
                record(running.pop(future), future.result())
    finally:
        for future in running:
            future.cancel()
        concurrent.futures.wait(running)
