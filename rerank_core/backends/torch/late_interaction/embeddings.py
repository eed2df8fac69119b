"""Embeddings of many rows laid end to end, so that a query meets them in a few large products."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch

from rerank_core.backends.torch.late_interaction import residual_coding

__all__ = ["Block", "BlockPart", "Embedding", "RowRef", "Rows", "compressed", "gather"]

Embedding: TypeAlias = Mapping[str, torch.Tensor]
"""What a row became, by the name of the part: each ``[own length, ...]``, as in ``{"vectors": [tokens, width]}``."""


@dataclass(frozen=True)
class Rows:
    """Rows of a part, end to end: ``read(start, stop)`` gives their values in float32 (integers as they are)."""

    read: Callable[[int, int], torch.Tensor]
    lengths: list[int]

    def all(self) -> torch.Tensor:
        return self.read(0, sum(self.lengths))


@dataclass(frozen=True, eq=False)
class BlockPart:
    """One part of all rows of a block.

    Attributes:
        data: ``[sum of lengths, ...]``.
        bounds: ``[rows + 1]`` int64, where each row begins, and the end.
        coding: what makes values of int8 ``data``; None where ``data`` are the values.
        device: where values are wanted.
    """

    data: torch.Tensor
    bounds: torch.Tensor
    coding: residual_coding.Coding | None
    device: torch.device

    def pick(self, numbers: Sequence[int]) -> Rows:
        """Rows by number, ascending. Where they follow each other nothing is copied."""
        chosen = torch.as_tensor(numbers, dtype=torch.int64)
        starts, stops = self.bounds[chosen], self.bounds[chosen + 1]
        lengths: list[int] = (stops - starts).tolist()
        if not lengths:
            return Rows(lambda start, stop: self.data[:0].to(self.device), lengths)
        if bool((chosen.diff() == 1).all()):
            first = int(starts[0])
            return Rows(lambda start, stop: self._values(slice(first + start, first + stop)), lengths)
        counts = stops - starts
        places = torch.arange(int(counts.sum())) + torch.repeat_interleave(starts - (counts.cumsum(0) - counts), counts)
        return Rows(lambda start, stop: self._values(places[start:stop]), lengths)

    def _values(self, where: slice | torch.Tensor) -> torch.Tensor:
        data = self.data[where].to(self.device)
        if self.coding is not None:
            return residual_coding.decode(data, self.coding, where)
        return data.float() if data.is_floating_point() else data


@dataclass(frozen=True, eq=False)
class Block:
    """The embeddings of some rows. Numbers go by the length of the first part, so that rows of one length are
    neighbours."""

    parts: Mapping[str, BlockPart]

    def part(self, name: str, numbers: Sequence[int]) -> Rows:
        return self.parts[name].pick(numbers)

    def embedding(self, number: int) -> Embedding:
        return {name: part.pick([number]).all() for name, part in self.parts.items()}


@dataclass(frozen=True, slots=True)
class RowRef:
    """Where in a block a row's embedding lies."""

    block: Block
    number: int


def gather(embeddings: Sequence[Embedding]) -> tuple[Block, list[int]]:
    """Embeddings as a block, and which of them each of its rows is."""
    first = next(iter(embeddings[0]))
    order = sorted(range(len(embeddings)), key=lambda place: len(embeddings[place][first]))
    parts = {}
    for name in embeddings[0]:
        own = [embeddings[place][name] for place in order]
        bounds = torch.tensor([0, *map(len, own)]).cumsum(0)
        parts[name] = BlockPart(torch.cat(own), bounds, None, own[0].device)
    return Block(parts), order


def compressed(block: Block, precision: str) -> tuple[Block, tuple[float, float, int]]:
    """The same rows in fewer bytes, and how far that moved them: mean and largest length of the difference of the first
    part's vectors, and how many there are.

    Args:
        precision: ``float32`` leaves all as it is; ``float16`` rounds; ``int8`` keeps the first part as residuals
            (`residual_coding.encode`) and the rest in float16.
    """
    if precision == "float32":
        return block, (0.0, 0.0, 0)
    parts = {}
    moved = (0.0, 0.0, 0)
    for number, (name, part) in enumerate(block.parts.items()):
        if not part.data.is_floating_point():
            parts[name] = part
            continue
        coding = None
        if precision == "int8" and number == 0:
            data, coding = residual_coding.encode(part.data.float())
        else:
            data = part.data.half()
        parts[name] = BlockPart(data, part.bounds, coding, part.device)
        if number == 0:
            found = [
                (part.data[start : start + 65536].float() - parts[name]._values(slice(start, start + 65536))).norm(
                    dim=-1
                )
                for start in range(0, len(part.data), 65536)
            ]
            apart = torch.cat(found) if found else part.data.new_zeros(1)
            moved = (float(apart.mean()), float(apart.max()), len(apart))
    return Block(parts), moved
