"""`MemoryStore`: embeddings of an index in memory, and the functions that it shares with `DiskStore`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import torch

from rerank_core.backends.torch.late_interaction.embeddings import Block, RowRef, compressed, gather
from rerank_core.errors import NonFiniteScoreError
from rerank_core.index.protocols import StoredText

__all__ = ["Drift", "MemoryStore", "block_of", "with_references"]


class MemoryStore:
    """An `EmbeddingStore` in this process.

    Args:
        precision: ``float32``, ``float16`` or ``int8``; see `compressed`.
    """

    def __init__(self, precision: str) -> None:
        self.precision = precision
        self._drift = Drift()
        self._texts: dict[bytes, StoredText] = {}

    @property
    def drift(self) -> Mapping[str, float]:
        return self._drift.summary

    def find(self, digest: bytes) -> StoredText | None:
        return self._texts.get(digest)

    def add(self, texts: Mapping[bytes, StoredText]) -> None:
        block, rows = block_of(texts)
        block, drift = compressed(block, self.precision)
        self._drift.add(drift)
        self._texts.update(with_references(texts, block, rows))


class Drift:
    """The error of a lower precision over several shards: mean and largest distance of stored from exact vectors."""

    def __init__(self) -> None:
        self._sum, self._max, self._count = 0.0, 0.0, 0

    def add(self, drift: tuple[float, float, int]) -> None:
        """Count ``(mean, maximum, number of vectors)`` of a shard."""
        mean, maximum, count = drift
        self._sum, self._max, self._count = self._sum + mean * count, max(self._max, maximum), self._count + count

    @property
    def summary(self) -> dict[str, float]:
        """``mean`` and ``max``; empty where no vector was compressed."""
        return {"mean": self._sum / self._count, "max": self._max} if self._count else {}


def block_of(texts: Mapping[bytes, StoredText]) -> tuple[Block, list[int]]:
    """All windows of the texts as a block, and for each window, in the order of the texts, its row in the block.

    Raises:
        NonFiniteScoreError: a vector with NaN or infinity, which has no similarity to any query.
    """
    block, order = gather([window.embedding for text in texts.values() for window in text.windows])
    for name, part in block.parts.items():
        # The sum reads memory once. It may overflow for finite numbers, but with NaN or infinity it is never finite.
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


def with_references(
    texts: Mapping[bytes, StoredText], block: Block, rows: Sequence[int]
) -> Iterator[tuple[bytes, StoredText]]:
    """The texts with a reference into ``block`` in place of each window's embedding."""
    row = iter(rows)
    for digest, text in texts.items():
        windows = [replace(window, embedding=RowRef(block, next(row))) for window in text.windows]
        yield digest, StoredText(windows, text.truncated)
