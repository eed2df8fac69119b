"""Which rows make a step, which documents of a row it sees, and the dataset that a DataLoader reads.

Nothing is remembered between epochs, so a resumed run, any number of workers and any number of processes draw the same.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rerank_core.records.label_scale import LabelScale
from rerank_core.records.training_row import TrainingRow
from rerank_trainers.data.hashing import query_hash, text_hash
from rerank_trainers.data.teacher_vectors import TeacherVectors

__all__ = ["Group", "Item", "Steps", "TrainingDataset", "choose"]


@dataclass(frozen=True, slots=True)
class Item:
    """A row to read for a step.

    Attributes:
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
        rows: number of rows.
        batch_size: rows of a step, over all processes.
    """

    def __init__(self, rows: int, batch_size: int, *, seed: int, rank: int = 0, world: int = 1) -> None:
        self.rows, self.batch_size, self.seed, self.rank, self.world = rows, batch_size, seed, rank, world
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, which decides the order of rows."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.rows // self.batch_size)

    def __iter__(self) -> Iterator[list[Item]]:
        order = list(range(self.rows))
        random.Random(f"order {self.seed} {self.epoch}").shuffle(order)
        for start in range(0, self.rows, self.batch_size):
            step = order[start : start + self.batch_size]
            weight = self.world / len(step)
            items = [Item(row, self.epoch, weight) for row in step[self.rank :: self.world]]
            yield items or [Item(step[0], self.epoch, 0.0)]


# Up to this many distinct relevant labels are grades of their own (people grade 1 to 5); more are cut into this many.
_BANDS = 5


def choose(labels: Sequence[float] | None, count: int, size: int, *, seed: int, row: str, epoch: int) -> list[int]:
    """Choose ``size`` of the ``count`` documents of a row for an epoch; positions in the row's order.

    With one relevant grade: one relevant document and ``size - 1`` irrelevant ones, in rotation over epochs; relevant
    documents fill up if there are too few irrelevant ones. With several relevant grades: the grades share the group
    evenly, at least one document is relevant, and at least two grades occur. In both cases every document of a grade is
    used once before any is used again. Without labels all documents are one grade.

    Args:
        labels: more than 0 is relevant; None without labels.
        size: 0 for all documents.
        row: id of the row.
    """
    if not size or count <= size:
        return list(range(count))
    shuffled = list(range(count))
    random.Random(f"documents {seed} {row}").shuffle(shuffled)
    if labels is None:
        return sorted(_turn(shuffled, size, epoch))
    grades = _grades(labels, shuffled)
    others = [doc for doc in shuffled if labels[doc] <= 0]
    if len(grades) > 1:
        # A group of one document has no room for an irrelevant one.
        return sorted(_shared([*grades, others] if others and size > 1 else grades, size, seed, row, epoch))
    relevant = grades[0] if grades else []
    first = _turn(relevant, 1, epoch) if relevant else []
    rest = _turn(others, min(size - len(first), len(others)), epoch)
    more = [doc for doc in relevant if doc not in first]
    return sorted([*first, *rest, *_turn(more, size - len(first) - len(rest), epoch)])


def _grades(labels: Sequence[float], documents: Sequence[int]) -> list[list[int]]:
    """Relevant documents by grade, best grade first; the grade depends only on the label."""
    values = sorted({labels[doc] for doc in documents if labels[doc] > 0}, reverse=True)
    bands = min(len(values), _BANDS)
    band = {value: position * bands // len(values) for position, value in enumerate(values)}
    grades: list[list[int]] = [[] for _ in range(bands)]
    for doc in documents:
        if labels[doc] > 0:
            grades[band[labels[doc]]].append(doc)
    return grades


def _shared(grades: Sequence[Sequence[int]], size: int, seed: int, row: str, epoch: int) -> list[int]:
    """``size`` documents, the same number of every grade (or all of a smaller grade). Remaining slots rotate over the
    grades, in a new order each round, so that any two grades meet."""
    level = 0
    while sum(min(len(grade), level + 1) for grade in grades) <= size:
        level += 1
    slots = size - sum(min(len(grade), level) for grade in grades)
    waiting = [number for number, grade in enumerate(grades) if len(grade) > level]
    turn, start = divmod(epoch, len(waiting))
    random.Random(f"grades {seed} {row} {turn}").shuffle(waiting)
    chosen: list[int] = []
    for number, grade in enumerate(grades):
        own = min(len(grade), level)
        seen, more = epoch * own, 0
        if number in waiting:
            # The epochs of this round in which the grade got one of the remaining slots.
            given = [(waiting.index(number) - at) % len(waiting) < slots for at in range(start + 1)]
            seen, more = seen + turn * slots + sum(given[:-1]), int(given[-1])
        chosen += [grade[(seen + offset) % len(grade)] for offset in range(own + more)]
    return chosen


def _turn(documents: Sequence[int], count: int, epoch: int) -> list[int]:
    """``count`` of the documents, starting each epoch where the last one ended."""
    return [documents[(epoch * count + offset) % len(documents)] for offset in range(count)] if documents else []


class TrainingDataset:
    """Rows as groups of ``size`` documents: a map-style dataset whose keys are `Item`.

    Args:
        scale: maps labels of the file to [0, 1]; the lowest value is "not relevant".
        size: documents per group; 0 for all.
        vectors: a teacher's vectors, which groups then have.
    """

    def __init__(
        self,
        rows: Sequence[TrainingRow],
        scale: LabelScale,
        size: int,
        seed: int,
        *,
        vectors: TeacherVectors | None = None,
    ) -> None:
        self.rows, self.scale, self.size, self.seed, self.vectors = rows, scale, size, seed, vectors

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
        )
