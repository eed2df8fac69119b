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
    """A clock and counts that a test sets."""

    def __init__(self) -> None:
        self.now = self.processor = 0.0
        self.switches = 0
        self.cores = StolenCores(lambda: self.switches, lambda: self.now, lambda: self.processor)

    def team(self, seconds: float, switches: int, cores: float) -> None:
        with self.cores.observe():
            self.now += seconds
            self.processor += cores * seconds
            self.switches += switches


@pytest.mark.parametrize(("switches", "cores"), [(3, 1.9), (3, 1.2), (40, 1.9)], ids=["idle", "waiting", "starting"])
def test_one_of_the_two_signs_is_no_other_work(switches: int, cores: float) -> None:
    """A few switches are usual, the threads of a team wait for the calling thread, and their start is restless."""
    machine = Machine()
    for _ in range(10):
        machine.team(0.11, switches, cores)

        assert not machine.cores.found


def test_switches_and_less_than_two_cores_are_and_the_finding_ends() -> None:
    """Short calls are judged together; two seconds later a team is tried again."""
    machine = Machine()
    machine.team(0.06, 10, 1.3)
    assert not machine.cores.found
    machine.team(0.06, 10, 1.3)
    assert machine.cores.found
    machine.now += 2.1
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
