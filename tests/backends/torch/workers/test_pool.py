"""The process's workers: one thread of torch each, the user's threads unchanged, no call waits for itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

import rerank_core
from rerank_core import InputError
from rerank_core.backends.torch.workers import pool
from rerank_core.testing import tiny_cross_encoder

NUMBERS = """
import json, threading
import torch
from rerank_core.backends.torch.workers import pool

def of_a_new_thread():
    found = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return found[0]

def of_workers(threads, count, alone):
    met = threading.Barrier(count)
    def number():
        met.wait(20)
        return torch.get_num_threads()
    return [future.result() for future in [pool.submit(number, threads, alone=alone) for _ in range(count)]]

SETTING
before = [torch.get_num_threads(), of_a_new_thread()]
single = of_workers(2, 2, False)
team = of_workers(2, 1, True)
larger = of_workers(3, 3, False)
team_of_three = of_workers(3, 1, True)
after = [torch.get_num_threads(), of_a_new_thread()]
print(json.dumps([before, single, team, larger, team_of_three, after]))
"""


@pytest.mark.parametrize("setting", ["", "torch.set_num_threads(5)"], ids=["default", "set"])
def test_only_workers_compute_with_one_thread(setting: str) -> None:
    """A worker has one thread, one for a batch alone has the call's number, and threads that the user starts
    afterwards have the number that they had before."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    command = [sys.executable, "-c", NUMBERS.replace("SETTING", setting)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    before, single, team, larger, team_of_three, after = json.loads(done.stdout)

    assert single == [1, 1]
    assert team == [2]
    assert larger == [1, 1, 1]
    assert team_of_three == [3]
    assert after == before
    assert not setting or before == [5, 5]


def test_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """`threads=` goes before RERANK_THREADS, which goes before torch's number in the calling thread."""
    monkeypatch.delenv("RERANK_THREADS", raising=False)
    monkeypatch.setattr(pool, "cpu_quota", lambda: None)
    assert pool.thread_count(None) == torch.get_num_threads()
    monkeypatch.setenv("RERANK_THREADS", "3")
    assert pool.thread_count(None) == 3
    assert pool.thread_count(7) == 7


@pytest.mark.parametrize("value", ["0", "-2", "two", "1.5"])
def test_a_wrong_number_of_threads_is_an_error(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the variable and the value."""
    monkeypatch.setenv("RERANK_THREADS", value)
    with pytest.raises(InputError, match=f"RERANK_THREADS is '{value}'"):
        pool.thread_count(None)


@pytest.fixture
def eight_threads() -> Iterator[None]:
    """torch with eight threads in this thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(8)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("eight_threads")
def test_a_quota_limits_torchs_own_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container with two CPUs on a large host gets two threads, unless the user set OMP_NUM_THREADS."""
    monkeypatch.delenv("RERANK_THREADS", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(pool, "cpu_quota", lambda: 2)
    assert pool.thread_count(None) == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    assert pool.thread_count(None) == 8


def test_work_of_a_worker_asks_for_no_worker() -> None:
    """A scorer that calls another reranker computes in its own thread; otherwise all workers could wait for work that
    none of them begins."""
    for alone in (True, False):
        assert pool.submit(lambda: pool.thread_count(4), 2, alone=alone).result(20) == 1


@pytest.mark.usefixtures("eight_threads")
def test_a_batch_alone_is_computed_by_the_calling_thread_and_its_team() -> None:
    """It has the threads already, and asks for no workers either; its errors are those of the work."""
    here = threading.get_ident()
    found = pool.submit(lambda: (threading.get_ident(), pool.thread_count(4)), 8, alone=True)
    assert found.result(0) == (here, 1)
    assert pool.thread_count(4) == 4

    failed = pool.submit(lambda: 1 // 0, 8, alone=True)
    with pytest.raises(ZeroDivisionError):
        failed.result(0)
    assert pool.submit(lambda: 5, 8, alone=False).result(20) == 5


def test_many_callers_share_the_workers() -> None:
    """Thirty-two threads with work that is alone: at no time do more run than a call may use threads."""
    running = most = 0
    lock = threading.Lock()

    def work() -> None:
        nonlocal running, most
        with lock:
            running += torch.get_num_threads()
            most = max(most, running)
        time.sleep(0.005)
        with lock:
            running -= torch.get_num_threads()

    size = pool._pool(2).size
    with ThreadPoolExecutor(32) as callers:
        list(callers.map(lambda _: pool.submit(work, 2, alone=True).result(20), range(96)))

    assert 0 < most <= size


def test_cancelled_work_is_forgotten() -> None:
    """Work that is cancelled before it begins does not count as running: the next batch can be alone."""
    held = threading.Event()
    holding = [pool.submit(held.wait, 2, alone=False) for _ in range(pool._pool(2).size)]
    waiting = pool.submit(lambda: None, 2, alone=False)
    assert waiting.cancel()
    held.set()
    for future in holding:
        assert future.result(20)

    assert pool.submit(torch.get_num_threads, 3, alone=True).result(20) == 3  # of two threads one may be taken


@pytest.mark.usefixtures("eight_threads")
def test_a_call_uses_no_more_workers_than_it_may(tmp_path: Path) -> None:
    """Beside a model with more threads: the pool is as large as that one asked for."""
    pool._pool(4)
    with rerank_core.load(tiny_cross_encoder(tmp_path, "bert"), device="cpu", threads=1, token_budget=64) as reranker:
        scorer: Any = reranker.scorer
        running = most = 0
        lock = threading.Lock()
        forward = scorer.forward

        def counted(batch: Any) -> Any:
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
            time.sleep(0.003)
            try:
                return forward(batch)
            finally:
                with lock:
                    running -= 1

        scorer.forward = counted
        reranker.rerank("which one", [f"number {number} " * 9 for number in range(30)])

    assert most == 1


def test_interrupted_work_is_forgotten() -> None:
    """Ctrl-C while the calling thread computes, and before work begins: the next batch can be alone."""

    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pool.submit(interrupted, torch.get_num_threads(), alone=True).result(20)
    workers = pool._pool(3)
    single = workers._single

    class Interrupted:
        submit = staticmethod(lambda run: interrupted())

    workers._single = Interrupted()  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        workers.submit(lambda: None, 2, alone=False)
    workers._single = single
    assert pool.submit(torch.get_num_threads, 3, alone=True).result(20) == 3


LATE = """
import sys, threading
import torch
from rerank_core.backends.torch.workers import pool

def late():
    threading.main_thread().join()
    for alone in (True, False):
        print(pool.submit(torch.get_num_threads, 2, alone=alone).result(20))

torch.set_num_threads(1)
BEFORE
threading.Thread(target=late).start()
"""
LIMITED = """
import resource
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (200 << 20),) * 2)
try:
    pool.submit(int, 200, alone=False)
except Exception as error:
    print(type(error).__name__, error)
print(pool.submit(int, 2, alone=False).result(20))
"""


def printed(code: str) -> list[str]:
    """The lines that a new process prints, and nothing on stderr."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=100)
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_a_thread_outlives_the_main_thread() -> None:
    """Python's pools take no work after the main thread has ended, so the user's thread computes itself."""
    assert printed(LATE.replace("BEFORE", "")) == ["1", "1"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_more_threads_than_the_system_starts_are_an_error() -> None:
    """It says so, a smaller number works, and the process ends, its threads too."""
    error, number, *late = printed(LATE.replace("BEFORE", LIMITED))
    assert error.startswith("InputError threads is 200, and the system starts no more threads")
    assert number == "0"
    assert late == ["1", "1"]
