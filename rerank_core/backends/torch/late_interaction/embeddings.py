"""Embeddings of many rows, stored end to end, so that a query is compared with all of them in a few matrix products."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch

from rerank_core.backends.torch.late_interaction import residual_coding

__all__ = ["Block", "BlockPart", "Embedding", "RowRef", "Rows", "by_block", "compressed", "gather"]

Embedding: TypeAlias = Mapping[str, torch.Tensor]
"""The embedding of one row: tensors by name, each ``[length, ...]``, as in ``{"vectors": [tokens, width]}``. The names
are the parts of an embedding; each part has a length of its own."""


@dataclass(frozen=True)
class Rows:
    """One part of chosen rows.

    Attributes:
        read: ``read(start, stop)`` returns values of the rows laid end to end, in float32 (integers as they are).
        lengths: length of each row.
    """

    read: Callable[[int, int], torch.Tensor]
    lengths: list[int]

    def all(self) -> torch.Tensor:
        """The values of all rows, ``[sum of lengths, ...]``."""
        return self.read(0, sum(self.lengths))


@dataclass(frozen=True, eq=False)
class BlockPart:
    """One part of all rows of a block.

    Attributes:
        data: ``[sum of lengths, ...]``.
        bounds: ``[rows + 1]`` int64; row ``i`` is ``data[bounds[i] : bounds[i + 1]]``.
        coding: decodes int8 ``data``; None where ``data`` holds the values themselves.
        device: the device that values are returned on.
    """

    data: torch.Tensor
    bounds: torch.Tensor
    coding: residual_coding.Coding | None
    device: torch.device

    def pick(self, rows: Sequence[int]) -> Rows:
        """Rows by number, ascending. Consecutive rows are not copied."""
        chosen = torch.as_tensor(rows, dtype=torch.int64, device="cpu")
        starts, stops = self.bounds[chosen], self.bounds[chosen + 1]
        lengths: list[int] = (stops - starts).tolist()
        if not lengths:
            return Rows(lambda start, stop: self.data[:0].to(self.device), lengths)
        if bool((chosen.diff() == 1).all()):
            first = int(starts[0])
            return Rows(lambda start, stop: self._values(slice(first + start, first + stop)), lengths)
        counts = stops - starts
        shifts = starts - (counts.cumsum(0) - counts)
        index = torch.arange(int(counts.sum()), device="cpu") + torch.repeat_interleave(shifts, counts)
        return Rows(lambda start, stop: self._values(index[start:stop]), lengths)

    def _values(self, where: slice | torch.Tensor) -> torch.Tensor:
        data = self.data[where].to(self.device)
        if self.coding is not None:
            return residual_coding.decode(data, self.coding, where)
        return data.float() if data.is_floating_point() else data


@dataclass(frozen=True, eq=False)
class Block:
    """The embeddings of many rows, sorted by the length of their first part."""

    parts: Mapping[str, BlockPart]

    def part(self, name: str, rows: Sequence[int]) -> Rows:
        """One part of some rows, by their numbers in ascending order."""
        return self.parts[name].pick(rows)

    def embedding(self, row: int) -> Embedding:
        """The embedding of one row."""
        return {name: part.pick([row]).all() for name, part in self.parts.items()}


@dataclass(frozen=True, slots=True)
class RowRef:
    """A reference to one row of a block, used in place of its embedding."""

    block: Block
    number: int

    @property
    def embedding(self) -> Embedding:
        """The embedding of the row."""
        return self.block.embedding(self.number)


def gather(embeddings: Sequence[Embedding]) -> tuple[Block, list[int]]:
    """Embeddings as a block, and for each row of the block the position of its embedding in ``embeddings``."""
    first = next(iter(embeddings[0]))
    order = sorted(range(len(embeddings)), key=lambda position: len(embeddings[position][first]))
    parts = {}
    for name in embeddings[0]:
        tensors = [embeddings[position][name] for position in order]
        bounds = torch.tensor([0, *map(len, tensors)], device="cpu").cumsum(0)
        parts[name] = BlockPart(torch.cat(tensors), bounds, None, tensors[0].device)
    return Block(parts), order


def by_block(
    embeddings: Sequence[Embedding | RowRef], items: Sequence[int]
) -> list[tuple[Block, Sequence[int], Sequence[int]]]:
    """Group embeddings by the block that they are in: ``(block, rows in ascending order, their items)``. Embeddings
    that are in no block yet become one."""
    pairs = list(zip(embeddings, items, strict=True))
    groups: list[tuple[Block, Sequence[int], Sequence[int]]] = []
    if loose := [(embedding, item) for embedding, item in pairs if not isinstance(embedding, RowRef)]:
        block, order = gather([embedding for embedding, _ in loose])
        groups.append((block, range(len(order)), [loose[number][1] for number in order]))
    stored: dict[int, list[tuple[int, int]]] = {}
    blocks: dict[int, Block] = {}
    for embedding, item in pairs:
        if isinstance(embedding, RowRef):
            blocks[id(embedding.block)] = embedding.block
            stored.setdefault(id(embedding.block), []).append((embedding.number, item))
    for key, rows in stored.items():
        rows.sort()
        groups.append((blocks[key], [row for row, _ in rows], [item for _, item in rows]))
    return groups


def compressed(block: Block, precision: str) -> tuple[Block, tuple[float, float, int]]:
    """The same rows in fewer bytes, and how far that moved the vectors of the first part: mean distance, largest
    distance, number of vectors.

    Args:
        precision: ``float32`` changes nothing; ``float16`` rounds; ``int8`` stores the first part as residuals
            (`residual_coding.encode`) and the other parts in float16.
    """
    if precision == "float32":
        return block, (0.0, 0.0, 0)
    parts = {}
    drift = (0.0, 0.0, 0)
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
            chunks = [slice(start, start + 65536) for start in range(0, len(part.data), 65536)]
            norms = [(part.data[chunk].float() - parts[name]._values(chunk)).norm(dim=-1) for chunk in chunks]
            distances = torch.cat(norms) if norms else part.data.new_zeros(1)
            drift = (float(distances.mean()), float(distances.max()), len(distances))
    return Block(parts), drift
