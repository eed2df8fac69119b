"""Computes losses a few rows at a time, so that the similarities of a large step are never in memory together."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

__all__ = ["in_blocks"]

# With 8,192 documents a block of similarities takes 2 MB, and MaxSim's positions of 64 queries of 32 tokens 64 MB.
ROWS = 64


def in_blocks(losses: Callable[[Tensor], Tensor], rows: int, device: torch.device, size: int | None = None) -> Tensor:
    """``losses(positions)`` for the positions 0 to ``rows`` - 1, ``[rows]``, computed ``size`` at a time, by default
    ``ROWS``.

    With several blocks only the losses are kept: a block is computed again in the backward pass. Without rows
    ``losses`` is called once for none of them, so that the result depends on the same tensors in every process.
    """
    blocks = torch.split(torch.arange(rows, device=device), size or ROWS)
    if len(blocks) == 1 or not torch.is_grad_enabled():
        return torch.cat([losses(block) for block in blocks])
    # Objectives draw no random numbers, so none need to be repeated.
    return torch.cat([checkpoint(losses, block, use_reentrant=False, preserve_rng_state=False) for block in blocks])
