"""The rows of each step for a process, and the dataset that a DataLoader reads: rows as groups.

Nothing is remembered between epochs, so a resumed run, any number of workers and any number of processes draw the same.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rerank_core.records.label_scale import LabelScale
from rerank_core.records.training_row import TrainingRow
from rerank_trainers.config.schema import DataConfig
from rerank_trainers.data.batching import Draws
from rerank_trainers.data.choosing import choose
from rerank_trainers.data.hashing import query_hash, text_hash
from rerank_trainers.data.row_texts import RowTexts
from rerank_trainers.data.teacher_vectors import TeacherVectors, open_vectors
from rerank_trainers.objectives.required_data import Needs

__all__ = ["Group", "Item", "Steps", "TrainingDataset"]

_LOG = logging.getLogger("rerank_trainers")


@dataclass(frozen=True, slots=True)
class Item:
    """A row to read for a step.

    Attributes:
        epoch: how often the row was drawn before, which is the epoch unless ``data.train`` gives weights.
        weight: weight of its loss: the number of processes (gradients are averaged over them) divided by the rows of
            the step. 0 for a filler row of a process that would have none.
    """

    row: int
    epoch: int
    weight: float


@dataclass(frozen=True, slots=True)
class Group:
    """A query and its documents in a step.

    Attributes:
        docs: the documents as the model reads them, after their prompts.
        labels: in [0, 1]; None if the row has none.
        teacher: scores of a teacher; None if the row has none.
        weight: weight of its loss; see `Item`.
        source: origin of the row.
        query_vector, doc_vectors: a teacher's vectors ``[width]`` and ``[docs, width]``; None without a teacher.
        floor: the label of an irrelevant document, which ``data.label_map`` may put above 0.
    """

    id: str
    query: str
    docs: tuple[str, ...]
    labels: tuple[float, ...] | None
    teacher: tuple[float, ...] | None
    instruction: str | None
    weight: float
    source: str | None = None
    query_vector: npt.NDArray[np.float32] | None = None
    doc_vectors: npt.NDArray[np.float32] | None = None
    floor: float = 0.0

    @property
    def query_text(self) -> int:
        """A hash of the query with its instruction, signed with 64 bits: equal for equal texts."""
        return query_hash(self.query, self.instruction)

    @property
    def doc_texts(self) -> tuple[int, ...]:
        """A hash of each document."""
        return tuple(map(text_hash, self.docs))


class Steps:
    """Batch sampler: the rows of this process for each step of an epoch, one list of `Item` per step.

    Args:
        draws: which rows make a step, over all processes.
    """

    def __init__(self, draws: Draws, *, rank: int = 0, world: int = 1) -> None:
        self.draws, self.rank, self.world = draws, rank, world
        self.epoch = 0
        self._reported = False

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, which decides the order of rows."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.draws.steps

    def __iter__(self) -> Iterator[list[Item]]:
        plan = self.draws.plan(self.epoch)
        if plan.crowded and not self._reported and self.rank == 0:
            self._reported = True
            _LOG.warning(
                "data.unique_texts: %d of %d rows of epoch %d share a text with another row of their step, because no "
                "other step had room for them; objectives ignore such pairs",
                plan.crowded,
                sum(map(len, plan.steps)),
                self.epoch,
            )
        for step in plan.steps:
            weight = self.world / len(step)
            items = [Item(drawn.row, drawn.turn, weight) for drawn in step[self.rank :: self.world]]
            yield items or [Item(step[0].row, step[0].turn, 0.0)]


class TrainingDataset:
    """Rows as groups of ``size`` documents: a map-style dataset whose keys are `Item`.

    Args:
        scale: maps labels of the file to [0, 1]; the lowest value is "not relevant".
        size: documents per group; 0 for all.
        vectors: a teacher's vectors, which groups then have.
        same_source: rows of one source make a step.
        unique_texts: no text occurs in two rows of a step, as far as there is room.
    """

    def __init__(
        self,
        rows: Sequence[TrainingRow],
        scale: LabelScale,
        size: int,
        seed: int,
        *,
        vectors: TeacherVectors | None = None,
        same_source: bool = False,
        unique_texts: bool = False,
    ) -> None:
        self.rows, self.scale, self.size, self.seed, self.vectors = rows, scale, size, seed, vectors
        self.same_source, self.unique_texts = same_source, unique_texts

    @classmethod
    def of(cls, rows: Sequence[TrainingRow], data: DataConfig, seed: int, needs: Needs) -> TrainingDataset:
        """The dataset of a configuration.

        Args:
            needs: those of the objective. One that compares the texts of a step, where equal texts would be wasted, has
                ``data.unique_texts`` on by default.

        Raises:
            InputError: an objective without the teacher's vectors that it needs, or vectors that no objective reads; a
                text without a vector, or vectors that cannot be read.
        """
        vectors = open_vectors(data.teacher_vectors, needed=needs.teacher_vectors)
        if vectors is not None:
            vectors.check(rows)
        return cls(
            rows,
            data.label_scale(),
            data.group_size,
            seed,
            vectors=vectors,
            same_source=data.same_source,
            unique_texts=needs.step if data.unique_texts is None else data.unique_texts,
        )

    def steps(self, batch_size: int, *, rank: int = 0, world: int = 1) -> Steps:
        """The steps of an epoch for a process."""
        texts = RowTexts(self.rows, self.scale, self.size, self.seed) if self.unique_texts else None
        draws = Draws.of(self.rows, batch_size, self.seed, same_source=self.same_source, texts=texts)
        return Steps(draws, rank=rank, world=world)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, item: Item) -> Group:
        row = self.rows[item.row]
        labels = None if row.labels is None else self.scale.apply(row.labels)
        worth = None if labels is None else [label - self.scale.floor for label in labels]
        name = row.id or str(item.row)
        chosen = choose(worth, len(row.docs), self.size, seed=self.seed, row=name, epoch=item.epoch)
        query_vector = doc_vectors = None
        if self.vectors is not None:
            query_vector, doc_vectors = self.vectors.of_row(row, chosen, name)
        return Group(
            name,
            row.query,
            tuple(row.texts[doc] for doc in chosen),
            None if labels is None else tuple(labels[doc] for doc in chosen),
            None if row.scores is None else tuple(row.scores[doc] for doc in chosen),
            row.instruction,
            item.weight,
            row.source,
            query_vector,
            doc_vectors,
            self.scale.floor,
        )
