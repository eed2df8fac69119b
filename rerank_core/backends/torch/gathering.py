"""Keys of causal rows side by side, as variable-length attention reads them: each row's prefix, then its own."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from rerank_core.backends.torch.places import ranges

__all__ = ["Gathered"]


@dataclass(frozen=True, eq=False)
class Gathered:
    """The keys of some rows, and whose they are.

    Attributes:
        places: ``[keys]``, where each lies in the batch.
        query_bounds, key_bounds: ``[rows + 1]`` int32, where each row's queries and keys begin, and their number.
        longest: row, in queries and in keys.
    """

    places: torch.Tensor
    query_bounds: torch.Tensor
    key_bounds: torch.Tensor
    longest: tuple[int, int]

    @classmethod
    def of(cls, pieces: Sequence[tuple[int, int, int, int]], asked: Sequence[int], device: torch.device) -> Gathered:
        """Those of rows ``(start, length, start of the prefix, its length)``, each asked for ``asked`` tokens."""
        parts = [part for start, length, before, shared in pieces for part in ((before, shared), (start, length))]
        read = [length + shared for _, length, _, shared in pieces]
        queries, keys = (
            torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32, device=device)
            for lengths in (asked, read)
        )
        places = ranges([start for start, _ in parts], [length for _, length in parts], device)
        return cls(places, queries, keys, (max(asked), max(read)))
