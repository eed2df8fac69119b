"""Lists of numbers as tensors, made without a Python object for each: a GPU waits for them."""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Iterable, Sequence

import torch

__all__ = ["joined", "ranges"]


def joined(rows: Iterable[Sequence[int]], device: torch.device) -> torch.Tensor:
    """``[1, total]`` int64: rows laid end to end.

    >>> joined([[7, 8], [], [9]], torch.device("cpu"))
    tensor([[7, 8, 9]])
    """
    flat = array("q", itertools.chain.from_iterable(rows))
    found = torch.frombuffer(flat, dtype=torch.int64) if flat else torch.empty(0, dtype=torch.int64)
    # On a CPU too a copy: else the buffer would have to outlive the tensor.
    return found[None].to(device, copy=True)


def ranges(starts: Sequence[int], lengths: Sequence[int], device: torch.device) -> torch.Tensor:
    """``[total]`` int64: from each start as many numbers as its length.

    >>> ranges([5, 0, 3], [2, 0, 3], torch.device("cpu"))
    tensor([5, 6, 3, 4, 5])
    """
    first, count = torch.tensor(starts, dtype=torch.int64), torch.tensor(lengths, dtype=torch.int64)
    ends = count.cumsum(0)
    total = int(ends[-1]) if len(lengths) else 0
    return (torch.arange(total) + torch.repeat_interleave(first - ends + count, count)).to(device)
