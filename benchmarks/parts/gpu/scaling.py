"""CPU scaling: tokens per second of 1, 2, 4, ... workers in one process, beside as many processes of one thread each.

Every worker gets one query with documents of its own, so that the ideal time is the same for any number. Run as
``scaling.py DIRECTORY DOCUMENTS NUMBER`` the file is one of the processes: it answers each line on stdin with the
seconds at which it began and ended, on the clock that all processes share, and its tokens.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch

import rerank_core
from rerank_core.testing import tiny_cross_encoder

__all__ = ["counts", "measure"]


def counts(most: int = 16) -> list[int]:
    """Powers of two up to the number of cores that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return [2**power for power in range(most.bit_length()) if 2**power <= min(cores, most)]


def measure(
    numbers: Sequence[int], *, layers: int, width: int, documents: int, seconds: float, rounds: int
) -> list[dict[str, Any]]:
    """One item for each number: tokens per second of so many workers, and of so many processes.

    Args:
        numbers: of workers and processes.
        layers, width: of the cross-encoder, which has random weights.
        documents: of each worker.
        seconds: no further round begins when so many have passed, or would have.
        rounds: at most so many; figures are medians.
    """
    started, threads = time.perf_counter(), torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        directory = tiny_cross_encoder(folder, layers=layers, hidden=width, positions=514, std=0.05)
        processes = [_Process(directory, documents, number) for number in range(max(numbers))]
        try:
            for process in processes:
                process.wait()
            models = {number: rerank_core.load(directory, device="cpu", threads=number) for number in numbers}
            for number, model in models.items():
                _scored_tokens(model, [_request(documents, which) for which in range(number)])  # warm up
            rates: dict[int, list[tuple[float, float]]] = {number: [] for number in numbers}
            for done in range(rounds):
                began = time.perf_counter()
                for number, model in models.items():
                    torch.set_num_threads(number)  # one worker is this thread
                    one_process = _rate_of(model, [_request(documents, which) for which in range(number)])
                    rates[number].append((one_process, _rate_together(processes[:number])))
                took = time.perf_counter() - began
                if done + 1 < rounds and time.perf_counter() - started + took > seconds:
                    break
        finally:
            torch.set_num_threads(threads)
            for process in processes:
                process.close()
    return [
        {
            "workers": number,
            "tokens/s": round(median(ours for ours, _ in each)),
            "processes tokens/s": round(median(theirs for _, theirs in each)),
            "of processes": round(median(ours / theirs for ours, theirs in each), 3),
            "rounds": len(each),
        }
        for number, each in rates.items()
    ]


def _request(documents: int, number: int) -> tuple[str, list[str]]:
    """A query with documents that no other number has."""
    from parts.gpu.subjects import generated

    ((query, docs),) = generated(1, documents, seed=number)
    return query, docs


def _scored_tokens(model: rerank_core.Reranker, requests: list[tuple[str, list[str]]]) -> int:
    return sum(ranking.usage.tokens or 0 for ranking in model.rerank_many(requests))


def _rate_of(model: rerank_core.Reranker, requests: list[tuple[str, list[str]]]) -> float:
    started = time.perf_counter()
    tokens = _scored_tokens(model, requests)
    return tokens / (time.perf_counter() - started)


def _rate_together(processes: Sequence[_Process]) -> float:
    """Tokens per second of processes that begin at the same time, from the first beginning to the last end."""
    for process in processes:
        process.begin()
    answers = [process.wait() for process in processes]
    seconds = max(answer["end"] for answer in answers) - min(answer["begin"] for answer in answers)
    return float(sum(answer["tokens"] for answer in answers) / seconds)


class _Process:
    """A process of one thread that scores its own documents when it is asked to."""

    def __init__(self, directory: Path, documents: int, number: int) -> None:
        path = os.pathsep.join(part for part in sys.path if part)
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(directory), str(documents), str(number)], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path},
        )  # fmt: skip

    def begin(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def wait(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a process of one thread ended with exit code {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        self._process.communicate()


def _serve(directory: str, documents: str, number: str) -> None:
    model = rerank_core.load(directory, device="cpu", threads=1)
    request = _request(int(documents), int(number))
    _scored_tokens(model, [request])
    print("{}", flush=True)
    for _ in sys.stdin:
        begin = time.perf_counter()
        tokens = _scored_tokens(model, [request])
        print(json.dumps({"begin": begin, "end": time.perf_counter(), "tokens": tokens}), flush=True)


if __name__ == "__main__":
    _serve(*sys.argv[1:])
