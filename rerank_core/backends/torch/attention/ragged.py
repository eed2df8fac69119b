"""Rows of several lengths as flat tensors, built without a Python object per number because a GPU waits for them."""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

__all__ = ["KeyIndex", "concat_ranges", "concat_rows", "integers", "sent"]


def sent(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A CPU tensor on a device.

    A GPU reads it from pinned memory: a copy from ordinary memory waits until the GPU has computed everything before
    it, so that no batch could be prepared meanwhile.
    """
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values.to(device)


def integers(values: Sequence[int], device: torch.device, dtype: torch.dtype = torch.int64) -> torch.Tensor:
    """``[n]``: numbers on a device."""
    return sent(torch.tensor(values, dtype=dtype, device="cpu"), device)


def concat_rows(rows: Iterable[Sequence[int]], device: torch.device) -> torch.Tensor:
    """``[1, total]`` int64: rows laid end to end.

    >>> concat_rows([[7, 8], [], [9]], torch.device("cpu"))
    tensor([[7, 8, 9]])
    """
    flat = array("q", itertools.chain.from_iterable(rows))
    ids = torch.frombuffer(flat, dtype=torch.int64) if flat else torch.empty(0, dtype=torch.int64, device="cpu")
    # Copied on a CPU as well: otherwise the buffer would have to outlive the tensor.
    return sent(ids[None].clone(), device)


def concat_ranges(starts: Sequence[int], lengths: Sequence[int], device: torch.device) -> torch.Tensor:
    """``[total]`` int64: for each start ``s`` and length ``n`` the numbers ``s, s + 1, ..., s + n - 1``.

    >>> concat_ranges([5, 0, 3], [2, 0, 3], torch.device("cpu"))
    tensor([5, 6, 3, 4, 5])
    """
    first, count = (torch.tensor(part, dtype=torch.int64, device="cpu") for part in (starts, lengths))
    ends = count.cumsum(0)
    total = int(ends[-1]) if len(lengths) else 0
    numbers = torch.arange(total, device="cpu") + torch.repeat_interleave(first - ends + count, count)
    return sent(numbers, device)


@dataclass(frozen=True, eq=False)
class KeyIndex:
    """The keys that each row of a packed batch attends to, as arguments of variable-length attention.

    Attributes:
        positions: ``[keys]``, the position of each key in the batch; the keys of a shared prefix occur once per row.
        cu_seqlens_q, cu_seqlens_k: ``[rows + 1]`` int32, where each row's queries and keys begin, and the total.
        longest: the largest number of queries and of keys of a row.
    """

    positions: torch.Tensor
    cu_seqlens_q: torch.Tensor
    cu_seqlens_k: torch.Tensor
    longest: tuple[int, int]

    @classmethod
    def of(cls, rows: Sequence[tuple[int, int, int, int]], queries: Sequence[int], device: torch.device) -> KeyIndex:
        """The keys of rows.

        Args:
            rows: ``(start, length, start of the prefix, length of the prefix)`` of each.
            queries: number of query tokens of each row.
        """
        parts = [part for start, length, prefix, shared in rows for part in ((prefix, shared), (start, length))]
        keys = [length + shared for _, length, _, shared in rows]
        cu_seqlens_q, cu_seqlens_k = (
            integers([0, *itertools.accumulate(lengths)], device, torch.int32) for lengths in (queries, keys)
        )
        positions = concat_ranges([start for start, _ in parts], [length for _, length in parts], device)
        return cls(positions, cu_seqlens_q, cu_seqlens_k, (max(queries), max(keys)))
