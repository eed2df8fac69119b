"""Measures the rate of matrix products on this machine at a model's shapes: an upper bound on the speed in float32."""

from __future__ import annotations

import time

import torch

__all__ = ["flops_per_token", "measure"]

_ROWS = 2048


def flops_per_token(layers: int, width: int) -> int:
    """Multiplications and additions in the linear layers of an encoder with a feed-forward block of four widths."""
    return 2 * layers * (4 * width * width + 2 * width * 4 * width)


def measure(width: int, repeats: int = 5) -> float:
    """Floating-point operations per second over the products of one layer, the best of ``repeats``; for each product
    the faster of torch's and oneDNN's, the latter with the weight reordered beforehand."""
    shapes = [(width, width, 4), (width, 4 * width, 1), (4 * width, width, 1)]
    seconds = sum(count * min(_plain(i, o, repeats), _prepacked(i, o, repeats)) for i, o, count in shapes)
    return _ROWS * flops_per_token(1, width) / seconds


def _plain(inputs: int, outputs: int, repeats: int) -> float:
    x, weight = torch.randn(_ROWS, inputs), torch.randn(outputs, inputs)
    return _best(lambda: torch.nn.functional.linear(x, weight), repeats)


def _prepacked(inputs: int, outputs: int, repeats: int) -> float:
    x, weight = torch.randn(_ROWS, inputs), torch.randn(outputs, inputs)
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return float("inf")
    reordered = torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS)
    return _best(lambda: torch.ops.mkldnn._linear_pointwise(x, reordered, None, "none", [], ""), repeats)


def _best(product: object, repeats: int) -> float:
    times = []
    with torch.inference_mode():
        for _ in range(repeats + 1):
            started = time.perf_counter()
            product()  # type: ignore[operator]
            times.append(time.perf_counter() - started)
    return min(times[1:])
