"""`ParallelScorer`: the part of a torch scorer that lets the process's workers compute its batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext
from typing import TypeVar

import torch

from rerank_core.backends.torch.execution import Execution
from rerank_core.backends.torch.workers import gpu_threads, pool

__all__ = ["ParallelScorer"]

_T = TypeVar("_T")

# Tokens of a forward pass, by device; half as many where several workers compute. On a CPU 2,048 packed tokens were
# fastest for 12 layers of width 384 and of 768 (1,024 and 4,096 were within 5 %); padded rows are faster in larger
# batches. On an H200 in bfloat16, where kernel launches cost most, 65,536 packed and 32,768 padded tokens were fastest
# for both models.
_PACKED_BUDGETS = {"cpu": 2048, "cuda": 65536}
_PADDED_BUDGETS = {"cpu": 4096, "cuda": 32768}


class ParallelScorer:
    """A scorer whose batches are computed side by side, on a GPU by turns; see `rerank_core.planning.parallel`."""

    module: torch.nn.Module
    execution: Execution
    packed: bool
    packed_budgets: Mapping[str, int] = _PACKED_BUDGETS
    _ceiling: float
    """The most tokens of a batch, after an out-of-memory error."""
    _independent = True
    """False where a batch changes the module, so that one batch is computed at a time."""

    @property
    def devices(self) -> tuple[str]:
        """The name of the module's device."""
        return (str(next(self.module.parameters()).device),)

    @property
    def needs_calling_thread(self) -> bool:
        """Whether batches are computed in the calling thread: in a module of the caller's or in training."""
        return self.execution.live or self.module.training

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Inference mode, and eval mode, since dropout would make scores random; training mode is restored.

        A module that is not the caller's computes in its own dtype: autocast of the calling thread is off inside, since
        it would change scores, and prepared weights have one dtype.
        """
        kind = self._kind
        available = torch.amp.is_autocast_available(kind)  # not on every kind of device
        casts = available and torch.is_autocast_enabled(kind) and not self.execution.live
        training = self.module.training
        if training:
            self.module.eval()
        try:
            with torch.inference_mode(), torch.autocast(kind, enabled=False) if casts else nullcontext():
                yield
        finally:
            if training:
                self.module.train()

    @property
    def workers(self) -> int:
        """The number of threads; 0 where the calling thread computes: in a thread that must not wait for workers, where
        one thread is asked for and the calling thread has no more, and on a GPU unless several are asked for."""
        if not self._independent or self.needs_calling_thread or not pool.may_wait():
            return 0
        if self._kind != "cpu":
            # Several threads on other devices, such as Apple's, were not tried.
            return gpu_threads.COUNT if self._kind == "cuda" and (self.execution.threads or 1) > 1 else 0
        threads = pool.thread_count(self.execution.threads)
        return 0 if threads == torch.get_num_threads() == 1 else threads

    def submit(self, work: Callable[[], _T], *, alone: bool) -> Future[_T]:
        if self._kind != "cpu":
            return gpu_threads.submit(work, *self.devices)
        return pool.submit(work, self.workers, alone=alone)

    @property
    def _kind(self) -> str:
        return next(self.module.parameters()).device.type

    @property
    def token_budget(self) -> int:
        """Tokens that are computed at the same time: the best number for the device, or less after an out-of-memory
        error. Each of several workers has half of a single one's."""
        budgets = self.packed_budgets if self.packed else _PADDED_BUDGETS
        best = budgets.get(self._kind, budgets["cpu"])
        workers = max(1, self.workers)
        return int(min(self._ceiling * workers, max(best, best // 2 * workers)))
