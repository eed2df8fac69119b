"""`compute_all`: every batch once, errors and interruptions end the call and nothing else."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from rerank_core import Batch, InputError, Output, Reranker
from rerank_core.planning.parallel import compute_all
from rerank_core.testing import FakeScorer, fake_spec


class Workers:
    """Threads of our own behind the protocol; counts what is submitted and running."""

    def __init__(self, count: int) -> None:
        self.workers = count
        self.pool = ThreadPoolExecutor(count)
        self.alone: list[bool] = []
        self.queued = self.most_queued = 0

    def submit(self, work: Callable[[], Any], *, alone: bool) -> Future[Any]:
        """As a torch scorer's."""
        self.alone.append(alone)
        self.queued += 1
        self.most_queued = max(self.most_queued, self.queued)
        future = self.pool.submit(work)
        future.add_done_callback(lambda _: setattr(self, "queued", self.queued - 1))
        return future


@pytest.fixture
def three() -> Iterator[Workers]:
    """Three workers."""
    workers = Workers(3)
    yield workers
    workers.pool.shutdown()


def test_every_batch_is_computed_once_and_recorded_by_the_caller(three: Workers) -> None:
    """In the workers' threads, at most as many at a time as the call may use; recorded in the calling thread."""
    threads: list[int] = []
    recorded: dict[int, int] = {}

    def compute(batch: int) -> int:
        threads.append(threading.get_ident())
        time.sleep(0.001)
        return batch * batch

    def record(batch: int, result: int) -> None:
        assert threading.current_thread() is threading.main_thread()
        recorded[batch] = result

    compute_all(three, range(40), compute, record)

    assert recorded == {number: number * number for number in range(40)}
    assert threading.get_ident() not in threads
    assert three.most_queued == 3
    assert not any(three.alone)


def test_a_single_batch_is_alone(three: Workers) -> None:
    """Which lets a worker use all cores."""
    compute_all(three, [7], str, lambda batch, result: None)

    assert three.alone == [True]


def test_without_workers_the_calling_thread_computes() -> None:
    """In the order of the batches, without a pool."""
    workers = Workers(1)
    workers.workers = 0
    found: list[Any] = []
    compute_all(
        workers, [1, 2, 3], lambda batch: (batch, threading.get_ident()), lambda _, result: found.append(result)
    )

    assert found == [(number, threading.get_ident()) for number in (1, 2, 3)]
    assert not workers.alone


def test_an_error_ends_the_call_when_running_batches_have_ended(three: Workers) -> None:
    """The first error is raised; no batch begins or runs after it, and the workers serve the next call."""
    begun: list[int] = []
    running = 0

    def compute(batch: int) -> int:
        nonlocal running
        begun.append(batch)
        running += 1
        try:
            time.sleep(0.02)
            if batch == 1:
                raise InputError("batch 1")
        finally:
            running -= 1
        return batch

    with pytest.raises(InputError, match="batch 1"):
        compute_all(three, range(1, 50), compute, lambda batch, result: None)
    count = len(begun)
    time.sleep(0.05)

    assert running == 0
    assert len(begun) == count < 12
    recorded: list[int] = []
    compute_all(three, range(5), lambda batch: batch, lambda batch, result: recorded.append(result))
    assert sorted(recorded) == list(range(5))


def test_an_interruption_ends_the_call(three: Workers) -> None:
    """Ctrl-C, or a progress function that raises, stops the rest."""
    begun: list[int] = []

    def interrupt(batch: int, result: None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compute_all(three, range(50), begun.append, interrupt)

    assert len(begun) <= 8


class ParallelFake(FakeScorer):
    """A fake whose batches are computed by three threads, the last of a call first."""

    def __init__(self, workers: Workers) -> None:
        super().__init__("joint", token_budget=90)
        self._workers = workers
        self.workers = workers.workers
        self.submit = workers.submit

    def forward(self, batch: Batch) -> Output:
        """Later batches are quicker."""
        time.sleep(0.02 / (1 + len(self.batches)))
        return super().forward(batch)


def test_rankings_are_those_of_one_worker(three: Workers) -> None:
    """Whichever batch is ready first, each score stands at its document; progress counts every passage once."""
    docs = [f"panda {'bamboo ' * (number % 7)} {number}" for number in range(60)]
    seen: list[int] = []
    spec = fake_spec()
    plain = Reranker.from_scorer(FakeScorer("joint", token_budget=90), spec)
    side_by_side = Reranker.from_scorer(ParallelFake(three), spec)
    job = [side_by_side._job(("panda", docs), side_by_side._call_options({}))]
    (found,) = side_by_side._rank(job, side_by_side._call_options({}), lambda done, total: seen.append(done))

    assert found.scores() == plain.rerank("panda", docs).scores()
    assert seen == sorted(seen)
    assert seen[-1] == 60
    assert len(three.alone) > 3


def test_calls_take_turns(three: Workers) -> None:
    """A short call that comes while a long one computes is done before it."""
    order: list[str] = []

    def call(name: str, count: int) -> None:
        compute_all(three, range(count), lambda batch: time.sleep(0.01), lambda batch, result: None)
        order.append(name)

    long = threading.Thread(target=call, args=("long", 60))
    long.start()
    time.sleep(0.03)
    call("short", 3)
    long.join()

    assert order == ["short", "long"]
