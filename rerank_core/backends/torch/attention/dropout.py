"""Attention with dropout on a CPU, for which torch's SDPA has no fused kernel.

SDPA's fallback is slow because it draws one random number per attention weight, keeps boolean masks, and works on
tensors larger than the cache. Here 64 random bits are drawn for four weights, and the sign of a stored weight says
whether it was kept: one tensor is saved for the backward pass instead of three. The work is done in tiles that fit in
cache. A training step of 12 layers x 384 over rows of 355 tokens takes 0.62 of the time, one of 6 layers over rows of
38 tokens 0.96.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from rerank_core.backends.torch.attention.attention_call import AttentionCall

__all__ = ["attend", "serves"]

Groups = Sequence[tuple[int, int, int]]

# Attention weights of a tile (2 MB). Half and twice the size were within 1 % for 12 heads and rows of 38 and of 355
# tokens; 32 times the size took a fifth longer.
_TILE = 1 << 19
_STEPS = 1 << 16


def serves(query: torch.Tensor, dropout: float) -> bool:
    """Whether this implementation applies: dropout in float32 on a CPU."""
    return dropout > 0 and query.device.type == "cpu" and query.dtype == torch.float32


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    groups: Groups,
    call: AttentionCall,
) -> torch.Tensor:
    """``[total, heads, width]`` from ``[heads, total, width]``, with gradients; each row attends to itself.

    Args:
        groups: ``(start, rows, length)``, see `packing.Packing`.
        call: without a soft cap; its dropout, rounded to the nearest of 65,536 steps, is drawn from torch's default
            generator.
    """
    output: torch.Tensor = _Attention.apply(query, key, value, groups, call)  # type: ignore[no-untyped-call]
    return output


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        groups: Groups,
        call: AttentionCall,
    ) -> torch.Tensor:
        heads, total, _ = query.shape
        scale, sliding_window = call.scale_for(query), call.sliding_window
        steps = min(round(call.dropout * _STEPS), _STEPS - 1)
        kept = 1 - steps / _STEPS
        out = query.new_empty((total, heads, value.shape[-1]))
        signed = []
        for tile in _tiles(groups, heads):
            q, k, v = (tile.cut(part) for part in (query, key, value))
            weights = torch.bmm(q * scale, k.mT)
            if sliding_window is not None and tile.length > sliding_window:
                weights.masked_fill_(_beyond(tile.length, sliding_window), -torch.inf)
            weights = torch.softmax(weights, dim=-1).copysign_(_draw(weights, steps))
            attended = torch.bmm(torch.relu(weights), v).mul_(1 / kept)
            tile.of(out.transpose(0, 1)).copy_(tile.joined(attended))
            signed.append(weights)
        ctx.save_for_backward(query, key, value, out, *signed)
        ctx.rest = groups, scale, kept
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value, out, *signed = ctx.saved_tensors
        groups, scale, kept = ctx.rest
        gradients = [torch.empty_like(part) for part in (query, key, value)]
        gradient = gradient.transpose(0, 1)
        # The row sum in the gradient of softmax, from output and output gradient (FlashAttention, 2022, appendix B.4).
        mean = (gradient * out.transpose(0, 1)).sum(-1, keepdim=True)
        for tile, weights in zip(_tiles(groups, query.shape[0]), signed, strict=True):
            q, k, v, g, m = (tile.cut(part) for part in (query, key, value, gradient, mean))
            g = g * (1 / kept)
            # A product with a transposed first factor is slow on a CPU, so the transpose of the result is computed.
            by_value = torch.bmm(g.mT, torch.relu(weights)).mT
            inner = torch.ops.aten.threshold_backward(torch.bmm(g, v.mT), weights, 0)
            inner.sub_(m).mul_(weights.abs())
            by_query, by_key = torch.bmm(inner, k * scale), torch.bmm((q * scale).mT, inner).mT
            for whole, part in zip(gradients, (by_query, by_key, by_value), strict=True):
                tile.of(whole).copy_(tile.joined(part))
        return *gradients, None, None


def _draw(weights: torch.Tensor, steps: int) -> torch.Tensor:
    """Random numbers for a tile: positive where a weight is kept, negative where it is dropped, never 0."""
    count = weights.numel()
    bits = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
    return bits[:count].view(weights.shape).to(weights.dtype).sub_(steps - _STEPS // 2 - 0.5)


class _Tile:
    """Rows of one length and some of their heads, which are computed at once."""

    def __init__(self, start: int, rows: int, length: int, heads: slice) -> None:
        self.rows, self.length = rows, length
        self._index = heads, slice(start, start + rows * length)

    def of(self, part: torch.Tensor) -> torch.Tensor:
        """A view ``[heads, rows * length, width]`` of ``[heads, total, width]``."""
        return part[self._index]

    def cut(self, part: torch.Tensor) -> torch.Tensor:
        """``[heads * rows, length, width]``."""
        return self.of(part).reshape(-1, self.length, part.shape[-1])

    def joined(self, part: torch.Tensor) -> torch.Tensor:
        """The inverse of `cut`: ``[heads, rows * length, width]``."""
        return part.reshape(-1, self.rows * self.length, part.shape[-1])


def _tiles(groups: Groups, heads: int) -> Iterator[_Tile]:
    for start, rows, length in groups:
        head_step = max(1, min(heads, _TILE // length**2))
        row_step = max(1, _TILE // (heads * length**2))
        for row in range(0, rows, row_step):
            for head in range(0, heads, head_step):
                count = min(row_step, rows - row)
                yield _Tile(start + row * length, count, length, slice(head, min(head + head_step, heads)))


@functools.lru_cache(maxsize=16)
def _beyond(length: int, sliding_window: int) -> torch.Tensor:
    """``[length, length]``: True where two positions are ``sliding_window`` or more apart."""
    positions = torch.arange(length)
    return (positions[:, None] - positions[None, :]).abs() >= sliding_window
