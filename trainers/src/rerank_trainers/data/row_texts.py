"""The hashes of the texts that a draw of a row puts into a step."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from rerank_core.records.label_scale import LabelScale
from rerank_core.records.training_row import TrainingRow
from rerank_trainers.data.choosing import choose
from rerank_trainers.data.hashing import query_hash, text_hash

__all__ = ["RowTexts"]


class RowTexts:
    """Hashes of the query and of the documents drawn, for every row. The rows are read once, at the first call.

    Memory: 8 bytes per text; another 8 per document and the row's id where only some documents of a row are drawn.

    Args:
        scale, size, seed: see `loop.dataset.TrainingDataset`, which draws the same documents.
    """

    def __init__(self, rows: Sequence[TrainingRow], scale: LabelScale, size: int, seed: int) -> None:
        self.rows, self.scale, self.size, self.seed = rows, scale, size, seed
        self._starts = array("Q")
        self._texts = array("q")
        self._drawn: dict[int, tuple[str, array[float] | None]] = {}

    def of(self, row: int, turn: int) -> Sequence[int]:
        """The texts of a row that was drawn ``turn`` times before."""
        if not self._starts:
            self._read()
        query = self._starts[row]
        texts = self._texts[query : self._starts[row + 1]]
        if row not in self._drawn:
            return texts
        name, worth = self._drawn[row]
        drawn = choose(worth, len(texts) - 1, self.size, seed=self.seed, row=name, epoch=turn)
        return [texts[0], *(texts[1 + doc] for doc in drawn)]

    def _read(self) -> None:
        for index, row in enumerate(self.rows):
            self._starts.append(len(self._texts))
            self._texts.append(query_hash(row.query, row.instruction))
            self._texts.extend(map(text_hash, row.texts))
            if 0 < self.size < len(row.docs):
                worth = None
                if row.labels is not None:
                    worth = array("d", (label - self.scale.floor for label in self.scale.apply(row.labels)))
                self._drawn[index] = row.id or str(index), worth
        self._starts.append(len(self._texts))
