"""Seconds, memory and the matrix-product peak of a device."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

__all__ = ["Way", "matmul_peak", "measure", "seconds"]

Way = Callable[[], list[float]]
"""Gives every row's score."""


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """How long work takes, with what it left running on the device."""
    wait(device)
    started = time.perf_counter()
    work()
    wait(device)
    return time.perf_counter() - started


@torch.inference_mode()
def matmul_peak(layers: Iterable[torch.nn.Linear], rows: Sequence[int], times: int) -> float:
    """Best floating-point operations a second of ``torch.matmul`` at the shapes of these layers, in their dtype."""
    layers = list(layers)
    some = layers[0].weight
    best = 0.0
    for inner, outer in sorted({(layer.in_features, layer.out_features) for layer in layers}):
        for count in rows:
            a = torch.randn(count, inner, device=some.device, dtype=some.dtype)
            b = torch.randn(outer, inner, device=some.device, dtype=some.dtype).T
            work = 2.0 * count * inner * outer

            def several(a: torch.Tensor = a, b: torch.Tensor = b) -> None:
                for _ in range(times):
                    torch.matmul(a, b)

            several()
            best = max(best, *(times * work / seconds(several, some.device) for _ in range(3)))
    return best


def measure(ways: dict[str, Way], device: torch.device, repeats: int) -> dict[str, dict[str, Any]]:
    """Seconds of each way, in turns; its peak memory above what lay there before; its scores."""
    found: dict[str, dict[str, Any]] = {}
    for name, way in ways.items():
        before = 0
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
            before = torch.cuda.memory_allocated(device)
        scores = way()
        memory = torch.cuda.max_memory_allocated(device) - before if device.type == "cuda" else None
        found[name] = {"scores": scores, "memory": memory, "times": []}
    for _ in range(repeats):
        for name, way in ways.items():
            found[name]["times"].append(seconds(way, device))
    return found
