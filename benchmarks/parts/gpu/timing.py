"""Seconds, memory and the matrix-product peak of a device."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

__all__ = ["Way", "matmul_peak", "measure", "seconds"]

Way = Callable[[], list[float]]
"""Returns the score of every row."""


def wait(device: torch.device) -> None:
    """Wait until the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Seconds that the work takes, until the device has finished it."""
    wait(device)
    started = time.perf_counter()
    work()
    wait(device)
    return time.perf_counter() - started


@torch.inference_mode()
def matmul_peak(layers: Iterable[torch.nn.Linear], rows: Sequence[int], times: int) -> float:
    """The best rate of ``torch.matmul`` at the shapes of these layers in their dtype, in floating-point operations per
    second."""
    layers = list(layers)
    weight = layers[0].weight
    best = 0.0
    for inner, outer in sorted({(layer.in_features, layer.out_features) for layer in layers}):
        for count in rows:
            a = torch.randn(count, inner, device=weight.device, dtype=weight.dtype)
            b = torch.randn(outer, inner, device=weight.device, dtype=weight.dtype).T
            work = 2.0 * count * inner * outer

            def several(a: torch.Tensor = a, b: torch.Tensor = b) -> None:
                for _ in range(times):
                    torch.matmul(a, b)

            several()
            best = max(best, *(times * work / seconds(several, weight.device) for _ in range(3)))
    return best


def measure(
    ways: dict[str, Way], device: torch.device, repeats: int, limit: float = float("inf")
) -> dict[str, dict[str, Any]]:
    """Scores, seconds of each repeat, and peak memory above the memory in use before; the ways take turns.

    Args:
        ways: the most important first.
        limit: seconds. Ways after the second are left out when half of them have passed, and rounds after the first
            that would not end in time.
    """
    measured: dict[str, dict[str, Any]] = {}
    started = time.perf_counter()
    for name, way in ways.items():
        if len(measured) > 1 and time.perf_counter() - started > limit / 2:
            break
        before = 0
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
            before = torch.cuda.memory_allocated(device)
        scores = way()
        memory = torch.cuda.max_memory_allocated(device) - before if device.type == "cuda" else None
        measured[name] = {"scores": scores, "memory": memory, "times": []}
    for number in range(repeats):
        began = time.perf_counter()
        for name, each in measured.items():
            each["times"].append(seconds(ways[name], device))
        now = time.perf_counter()
        if number + 1 < repeats and now - started + now - began > limit:
            break
    return measured
