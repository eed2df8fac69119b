"""Where an index keeps its embeddings in memory, and what that has in common with a folder (`disk_shelf`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import torch

from rerank_core.backends.torch.late_interaction.embeddings import Block, RowRef, compressed, gather
from rerank_core.errors import NonFiniteScoreError
from rerank_core.index.protocols import StoredText

__all__ = ["Drift", "MemoryStore", "laid_out", "placed_in"]


class MemoryStore:
    """Embeddings in this process, by the digest of their text."""

    def __init__(self, precision: str) -> None:
        self.precision = precision
        self._drift = Drift()
        self._held: dict[bytes, StoredText] = {}

    @property
    def drift(self) -> Mapping[str, float]:
        return self._drift.shown

    def find(self, digest: bytes) -> StoredText | None:
        return self._held.get(digest)

    def add(self, texts: Mapping[bytes, StoredText]) -> None:
        block, placed = laid_out(texts)
        block, moved = compressed(block, self.precision)
        self._drift.add(moved)
        self._held.update(placed_in(texts, block, placed))


class Drift:
    """How far a lower precision moved vectors, over several shards."""

    def __init__(self) -> None:
        self._sum, self._max, self._count = 0.0, 0.0, 0

    def add(self, moved: tuple[float, float, int]) -> None:
        mean, most, count = moved
        self._sum, self._max, self._count = self._sum + mean * count, max(self._max, most), self._count + count

    @property
    def shown(self) -> dict[str, float]:
        return {"mean": self._sum / self._count, "max": self._max} if self._count else {}


def laid_out(texts: Mapping[bytes, StoredText]) -> tuple[Block, list[int]]:
    """All windows of the texts as a block, and the row of each, in the order of the texts.

    Raises:
        NonFiniteScoreError: a vector with NaN or an infinity, which no query could be compared with.
    """
    block, order = gather([window.embedding for shelved in texts.values() for window in shelved.windows])
    for name, part in block.parts.items():
        # One pass over memory: a sum of finite numbers may overflow, one with NaN or an infinity is never finite.
        if (
            part.data.is_floating_point()
            and not bool(part.data.sum().isfinite())
            and not bool(torch.isfinite(part.data).all())
        ):
            raise NonFiniteScoreError(
                f"the model gave NaN or infinity among the {name} of these {len(texts)} texts; check its weights "
                "for NaN (and dtype: float16 overflows where float32 does not)"
            )
    rows = [0] * len(order)
    for row, window in enumerate(order):
        rows[window] = row
    return block, rows


def placed_in(
    texts: Mapping[bytes, StoredText], block: Block, rows: Sequence[int]
) -> Iterator[tuple[bytes, StoredText]]:
    row = iter(rows)
    for digest, shelved in texts.items():
        windows = [replace(window, embedding=RowRef(block, next(row))) for window in shelved.windows]
        yield digest, StoredText(windows, shelved.truncated)
