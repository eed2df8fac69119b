"""MaxSim (Khattab & Zaharia, *ColBERT*, SIGIR 2020) over documents of any length, without padding.

Documents lie end to end, so one matrix product serves many and no padded position can win a maximum.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import torch

__all__ = ["best_places", "maxsim"]

# Similarities of one product: enough to keep it busy, few enough that they are still in cache when the maximum is
# taken.
_BLOCK = 1 << 20


def maxsim(query: torch.Tensor, vectors: Callable[[int, int], torch.Tensor], lengths: Sequence[int]) -> torch.Tensor:
    """The best similarity of each query vector in each document, ``[documents, m]`` float32.

    Args:
        query: ``[m, width]`` float32.
        vectors: gives ``[stop - start, width]`` float32 of the documents' vectors ``start:stop``, which lie end to end.
        lengths: vectors of each document, none zero; neighbours of one length are taken together, so sorted
            documents are fastest.
    """
    best = torch.empty((len(lengths), query.shape[0]), dtype=torch.float32, device=query.device)
    turned = query.T.contiguous()
    room = max(1, _BLOCK // query.shape[0])
    place = first = 0
    for groups in _blocks(lengths, room):
        total = sum(count * length for count, length in groups)
        found = vectors(place, place + total) @ turned
        inside = 0
        for count, length in groups:
            some = found[inside : inside + count * length].view(count, length, -1)
            torch.amax(some, dim=1, out=best[first : first + count])
            inside += count * length
            first += count
        place += total
    return best


def best_places(query: torch.Tensor, vectors: torch.Tensor) -> tuple[list[int], list[float]]:
    """For each query vector the place of its most similar vector of one document, the first of equals, and how
    similar it is."""
    values, places = (vectors @ query.T).max(dim=0)
    return places.tolist(), values.tolist()


def _blocks(lengths: Sequence[int], room: int) -> Iterator[list[tuple[int, int]]]:
    """Documents as ``(count, length)`` groups, in blocks of about ``room`` vectors."""
    block: list[tuple[int, int]] = []
    held = 0
    for length, run in itertools.groupby(lengths):
        left = sum(1 for _ in run)
        while left:
            count = min(left, max(1, (room - held) // length))
            block.append((count, length))
            held += count * length
            left -= count
            if held >= room:
                yield block
                block, held = [], 0
    if block:
        yield block
