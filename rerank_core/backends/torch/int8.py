"""Linear layers in int8 on the CPU: weights once, per output channel; activations on the way, one scale a row.

A scale taken over a whole batch would make a row's score depend on its neighbours and on the caller's order, so each
row of a packed batch is quantized and multiplied by itself. Dynamic quantization: Bhandare et al., 2019
(arXiv:1906.00532). The operators are those that torch's compiler uses; torch's own quantized tensors are deprecated.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from rerank_core.backends.torch.prepack import gelu_after

__all__ = ["available", "quantize", "rows"]

# Activations are unsigned bytes around 128: x86 multiplies unsigned by signed.
_ZERO = 128
_HALF = torch.tensor(_ZERO + 0.5)
# oneDNN builds a kernel for each number of tokens and keeps 1,024: rows are filled up to a multiple of this.
_STEP = 8
_TINY = torch.finfo(torch.float32).tiny

_CALL = threading.local()


@contextmanager
def rows(lengths: Sequence[int]) -> Iterator[None]:
    """Say how long the rows of the packed batch are that this thread computes."""
    _CALL.lengths = list(lengths)
    try:
        yield
    finally:
        _CALL.__dict__.clear()


class Int8Linear(torch.nn.Module):
    """``activation(x @ weight.T + bias)`` for float32 ``[1, total, in]`` of a packed batch, or ``[1, rows, in]`` of its
    first tokens; takes the place of the layer it was made from."""

    def __init__(self, linear: torch.nn.Linear, activation: str = "none", algorithm: str = "") -> None:
        super().__init__()
        weight = linear.weight.detach()
        scales = (weight.abs().amax(dim=1) / 127).clamp(min=_TINY)
        rounded = (weight / scales[:, None]).round().to(torch.int8)
        self._weight = torch.ops.onednn.qlinear_prepack(rounded, None)
        self._scales, self._zeros = scales, torch.zeros(len(scales), dtype=torch.long)
        self._bias = None if linear.bias is None else linear.bias.detach()
        self._epilogue: tuple[str, list[float], str] = (activation, [], algorithm)
        self.in_features, self.out_features = linear.in_features, linear.out_features

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = torch.cat([self._multiply(bytes_, scale)[:length] for bytes_, scale, length in _quantized(x)])
        return out.view(*x.shape[:-1], self.out_features)

    def _multiply(self, bytes_: torch.Tensor, scale: float) -> torch.Tensor:
        result: torch.Tensor = torch.ops.onednn.qlinear_pointwise(
            bytes_, scale, _ZERO, self._weight, self._scales, self._zeros, self._bias,
            1.0, 0, torch.float32, *self._epilogue,
        )  # fmt: skip
        return result


Quantized = list[tuple[torch.Tensor, float, int]]


def _quantized(x: torch.Tensor) -> Quantized:
    """Each row of ``x`` in bytes, its scale and its length. Queries, keys and values ask for one tensor in turn."""
    if getattr(_CALL, "seen", None) is not x:
        flat = x.reshape(-1, x.shape[-1])
        lengths: list[int] = _CALL.lengths
        if len(flat) != sum(lengths):  # the last layer, which computes one token a row
            lengths = [1] * len(flat)
        stops = itertools.accumulate(lengths)
        _CALL.found = [_bytes(flat, stop - length, length) for stop, length in zip(stops, lengths, strict=True)]
        _CALL.seen = x
    found: Quantized = _CALL.found
    return found


def _bytes(flat: torch.Tensor, start: int, length: int) -> tuple[torch.Tensor, float, int]:
    least, most = torch.aminmax(flat[start : start + length])
    scale = max(-least.item(), most.item(), _TINY) / 127
    # What fills a row up are its neighbour's tokens; their products are dropped.
    filled = flat[start : start - (-length // _STEP) * _STEP]
    # Adding a half before the fraction is cut off rounds, in one pass over the row.
    return torch.add(_HALF, filled, alpha=1 / scale).to(torch.uint8), scale, length


def available() -> bool:
    """Whether this build of torch has the operators."""
    return hasattr(torch.ops.onednn, "qlinear_prepack") and hasattr(torch.ops.onednn, "qlinear_pointwise")


def quantize(module: torch.nn.Module) -> int:
    """Replace the linear layers of the encoder, and leave embeddings, norms and the head as they are.

    Returns:
        how many were replaced; their float32 weights go with them.
    """
    base = getattr(module, "base_model", module)
    pooler = getattr(base, "pooler", None)
    head = set() if pooler is None else set(pooler.modules())
    count = 0
    for parent in list(base.modules()):
        if parent in head:
            continue
        for name, child in list(parent.named_children()):
            if type(child) is torch.nn.Linear:
                fused = gelu_after(parent, name)
                setattr(parent, name, Int8Linear(child, "gelu", "none") if fused else Int8Linear(child))
                if fused:
                    parent.intermediate_act_fn = torch.nn.Identity()
                count += 1
    return count
