"""Rows of several lengths as flat tensors, made without a Python object for each number: a GPU waits for them."""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

__all__ = ["KeyIndex", "concat_ranges", "concat_rows"]


def concat_rows(rows: Iterable[Sequence[int]], device: torch.device) -> torch.Tensor:
    """``[1, total]`` int64: rows laid end to end.

    >>> concat_rows([[7, 8], [], [9]], torch.device("cpu"))
    tensor([[7, 8, 9]])
    """
    flat = array("q", itertools.chain.from_iterable(rows))
    found = torch.frombuffer(flat, dtype=torch.int64) if flat else torch.empty(0, dtype=torch.int64)
    # On a CPU too a copy: else the buffer would have to outlive the tensor.
    return found[None].to(device, copy=True)


def concat_ranges(starts: Sequence[int], lengths: Sequence[int], device: torch.device) -> torch.Tensor:
    """``[total]`` int64: from each start as many numbers as its length.

    >>> concat_ranges([5, 0, 3], [2, 0, 3], torch.device("cpu"))
    tensor([5, 6, 3, 4, 5])
    """
    first, count = torch.tensor(starts, dtype=torch.int64), torch.tensor(lengths, dtype=torch.int64)
    ends = count.cumsum(0)
    total = int(ends[-1]) if len(lengths) else 0
    return (torch.arange(total) + torch.repeat_interleave(first - ends + count, count)).to(device)


@dataclass(frozen=True, eq=False)
class KeyIndex:
    """The keys of some rows, and whose they are.

    Attributes:
        places: ``[keys]``, where each lies in the batch.
        cu_seqlens_q, cu_seqlens_k: ``[rows + 1]`` int32, where each row's queries and keys begin, and their number.
        longest: row, in queries and in keys.
    """

    places: torch.Tensor
    cu_seqlens_q: torch.Tensor
    cu_seqlens_k: torch.Tensor
    longest: tuple[int, int]

    @classmethod
    def of(cls, pieces: Sequence[tuple[int, int, int, int]], asked: Sequence[int], device: torch.device) -> KeyIndex:
        """Those of rows ``(start, length, start of the prefix, its length)``, each with ``asked`` query tokens."""
        parts = [part for start, length, before, shared in pieces for part in ((before, shared), (start, length))]
        read = [length + shared for _, length, _, shared in pieces]
        queries, keys = (
            torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32, device=device)
            for lengths in (asked, read)
        )
        places = concat_ranges([start for start, _ in parts], [length for _, length in parts], device)
        return cls(places, queries, keys, (max(asked), max(read)))
