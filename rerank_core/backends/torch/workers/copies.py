"""`ScorerCopies`: one scorer that computes each batch on one of several copies of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

from rerank_core.backends.fork_safety import Lock
from rerank_core.backends.torch.workers import pool
from rerank_core.backends.torch.workers.parallel_scorer import ParallelScorer
from rerank_core.planning.parallel import Parallel
from rerank_core.scorer import Batch, Layout, Output, QueryRow, Row, Scorer, Tokens

__all__ = ["CopyState", "ScorerCopies", "Turns"]

_T = TypeVar("_T")


class Turns:
    """Which copy computes next: the one with the fewest batches, and of equal ones the one that began the fewest.

    Args:
        count: number of copies.
    """

    def __init__(self, count: int) -> None:
        self._lock = Lock()
        self._running = [0] * count
        self._begun = [0] * count
        self._threads: ThreadPoolExecutor | None = None

    @contextmanager
    def take(self, copy: int | None = None) -> Iterator[int]:
        """The number of a copy that is free, or as free as any; ``copy`` where only that one can compute."""
        with self._lock:
            if copy is None:
                copy = min(range(len(self._running)), key=lambda one: (self._running[one], self._begun[one]))
            self._running[copy] += 1
            self._begun[copy] += 1
        try:
            yield copy
        finally:
            with self._lock:
                self._running[copy] -= 1

    def submit(self, work: Callable[[], _T]) -> Future[_T]:
        """Let one of as many threads as there are copies run ``work``. They end with this object."""
        with self._lock:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(len(self._running), "rerank-device", pool.mark_as_worker)
        try:
            return self._threads.submit(work)
        except RuntimeError as error:
            return pool.here_at_exit(work, error)


@dataclass(frozen=True, slots=True)
class CopyState:
    """The state between two stages of a cascade, and the copy that has it."""

    copy: int
    state: Any


class ScorerCopies:
    """A `Scorer` of equal scorers, each with its own copy of the model on its own device.

    Texts become rows by the first copy; any copy computes them. On the CPU the copies share the process's workers; on
    GPUs each has a thread. The optional protocols of the copies are in `copied_abilities`.

    Args:
        copies: at least two; on devices of one kind.
        devices: the name of each copy's device.
        turns: shared by scorers that have the same models.
    """

    def __init__(self, copies: Sequence[Scorer], devices: Sequence[str], turns: Turns | None = None) -> None:
        self.copies = tuple(copies)
        self.devices = tuple(devices)
        self.turns = turns or Turns(len(self.copies))
        self.layout: Layout = self.copies[0].layout
        self.max_positions = self.copies[0].max_positions
        self._on_cpu = self.devices[0].partition(":")[0] == "cpu"

    # ------------------------------------------------------------------ plans
    @property
    def packed(self) -> bool:
        return all(copy.packed for copy in self.copies)

    @property
    def workers(self) -> int:
        """On the CPU the number of threads of one model, on GPUs the number of copies; 0 where the caller's thread
        must compute."""
        first = self.copies[0]
        if self._on_cpu:
            return first.workers if isinstance(first, Parallel) else 0
        bound = isinstance(first, ParallelScorer) and first.needs_calling_thread
        return len(self.copies) if pool.may_wait() and not bound else 0

    @property
    def token_budget(self) -> int:
        """As many tokens on each device as its copy has alone."""
        return len(set(self.devices)) * min(copy.token_budget for copy in self.copies)

    def submit(self, work: Callable[[], _T], *, alone: bool) -> Future[_T]:
        return pool.submit(work, self.workers, alone=alone) if self._on_cpu else self.turns.submit(work)

    # ------------------------------------------------------------------ rows, by the first copy
    def tokenize(self, texts: Sequence[str], side: Literal["query", "doc"]) -> list[Tokens]:
        return self.copies[0].tokenize(texts, side)

    def overhead(self, query: Tokens, doc: Tokens) -> int:
        return self.copies[0].overhead(query, doc)

    def query_row(self, query: Tokens) -> QueryRow | None:
        return self.copies[0].query_row(query)

    def row(self, query: Tokens, doc: Tokens, start: int, stop: int, owner: tuple[int, int, int]) -> Row:
        return self.copies[0].row(query, doc, start, stop, owner)

    # ------------------------------------------------------------------ scores, by any copy
    def forward(self, batch: Batch) -> Output:
        with self.turns.take() as number:
            return self.with_copy(number, self.copies[number].forward(batch))

    @staticmethod
    def with_copy(number: int, output: Output) -> Output:
        """The output of a copy; its state says which copy has it."""
        return output if output.state is None else replace(output, state=CopyState(number, output.state))

    def close(self) -> None:
        """Close every copy, also after an error of one of them."""
        with ExitStack() as closing:
            for copy in self.copies:
                closing.callback(copy.close)
