"""A team of threads finds that other work takes its cores, and then batches that are alone take one thread."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
import torch

from rerank_core.backends.torch.workers import pool
from rerank_core.backends.torch.workers.stolen_cores import StolenCores, involuntary_switches

BUSY = "while True: pass"


class Machine:
    """A clock and a count of switches that a test sets."""

    def __init__(self) -> None:
        self.now, self.switches = 0.0, 0
        self.cores = StolenCores(lambda: self.switches, lambda: self.now)

    def team(self, seconds: float, switches: int) -> None:
        with self.cores.observe():
            self.now += seconds
            self.switches += switches


def test_a_few_switches_are_no_other_work() -> None:
    machine = Machine()
    for _ in range(10):
        machine.team(0.11, 7)

        assert not machine.cores.found


def test_many_switches_are_and_the_finding_ends() -> None:
    """Short calls are judged together, and once is not enough; two seconds later a team is tried again."""
    machine = Machine()
    for _ in range(3):
        machine.team(0.06, 10)
        assert not machine.cores.found
    machine.team(0.06, 10)
    assert machine.cores.found
    machine.now += 2.1
    assert not machine.cores.found
    machine.team(0.11, 20)
    assert machine.cores.found
    machine.now += 2.1
    machine.team(0.11, 1)
    assert not machine.cores.found


@pytest.mark.skipif(sys.platform == "win32", reason="Windows counts no switches")
def test_batches_alone_take_one_thread_beside_busy_processes() -> None:
    """Real processes take the cores; the number of torch's threads in the batch says who computed it."""
    matrix = torch.rand(256, 256)

    def compute() -> int:
        until = time.perf_counter() + 0.06
        while time.perf_counter() < until:
            matrix @ matrix
        return torch.get_num_threads()

    others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(2 * torch.get_num_threads())]
    try:
        before = involuntary_switches()
        numbers = []
        while 1 not in numbers and len(numbers) < 100:
            numbers.append(pool.submit(compute, 2, alone=True).result())
        assert involuntary_switches() > before
        assert numbers[-1] == 1
    finally:
        for other in others:
            other.kill()
            other.wait()
