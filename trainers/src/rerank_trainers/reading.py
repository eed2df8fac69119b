"""What a DataLoader reads: an `Item` in, the `Group` of its row out."""

from __future__ import annotations

from collections.abc import Sequence

from rerank_core.records.labels import LabelScale
from rerank_core.records.row import TrainingRow
from rerank_trainers.passes import Group
from rerank_trainers.sampling import Item, choose

__all__ = ["Groups"]


class Groups:
    """Rows as groups of a size; a map-style dataset whose keys are `Item`.

    Args:
        scale: from a label as the file has it to [0, 1]; what is worth least is not relevant.
        size: documents of a group; 0 for all.
    """

    def __init__(self, rows: Sequence[TrainingRow], scale: LabelScale, size: int, seed: int) -> None:
        self.rows, self.scale, self.size, self.seed = rows, scale, size, seed

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, item: Item) -> Group:
        row = self.rows[item.row]
        labels = None if row.labels is None else self.scale.apply(row.labels)
        worth = None if labels is None else [label - self.scale.floor for label in labels]
        name = row.id or str(item.row)
        chosen = choose(worth, len(row.docs), self.size, seed=self.seed, row=name, epoch=item.epoch)
        return Group(
            name,
            row.query,
            tuple(row.docs[doc] for doc in chosen),
            None if labels is None else tuple(labels[doc] for doc in chosen),
            None if row.scores is None else tuple(row.scores[doc] for doc in chosen),
            row.instruction,
            item.weight,
        )
