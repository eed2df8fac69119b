"""Which rows make a step: a function of (seed, epoch) and the rows alone, so that a resumed run, any number of workers
and any number of processes draw the same."""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rerank_core.records.training_row import TrainingRow
from rerank_trainers.data.row_store import RowStore
from rerank_trainers.data.row_texts import RowTexts

__all__ = ["Draw", "Draws", "Plan", "Stratum", "strata_of"]

# Steps that are tried for a row whose texts all later steps have; most rows need none.
_TRIED = 64


class Draw(NamedTuple):
    """A row in a step, and how often it was drawn before."""

    row: int
    turn: int


@dataclass(frozen=True, eq=False)
class Stratum:
    """Rows of one file, or of one source in a file, which are drawn equally often.

    Attributes:
        rows: indices of the rows.
        weight: draws of a row per epoch.
        source: number of the source whose rows share steps.
    """

    rows: npt.NDArray[np.int64]
    weight: float = 1.0
    source: int = 0

    @property
    def draws(self) -> int:
        """Draws per epoch, at least one; the same in every epoch."""
        return max(1, round(len(self.rows) * self.weight))

    def drawn(self, epoch: int, seed: int) -> Iterator[Draw]:
        """The draws of an epoch, which go on where the last epoch ended: every row is drawn once before any is drawn
        again."""
        order = self.rows.tolist()
        if self.draws != len(order):
            random.Random(f"turns {seed} {order[0]}").shuffle(order)
        first = epoch * self.draws
        for position in range(first, first + self.draws):
            turn, place = divmod(position, len(order))
            yield Draw(order[place], turn)


@dataclass(frozen=True, eq=False)
class Plan:
    """The steps of an epoch.

    Attributes:
        steps: the draws of each step, over all processes.
        crowded: draws that share a text with another row of their step, although they should not.
    """

    steps: Sequence[Sequence[Draw]]
    crowded: int = 0


@dataclass(frozen=True, eq=False)
class Draws:
    """Draws rows for the steps of each epoch. The number of steps is the same in every epoch, and every draw of the
    strata is in exactly one step.

    Attributes:
        batch_size: rows of a step, over all processes; the last step of each source may have fewer.
        same_source: a step has rows of one source.
        texts: given, no text occurs in two rows of a step, as far as there is room.
    """

    strata: Sequence[Stratum]
    batch_size: int
    seed: int
    same_source: bool = False
    texts: RowTexts | None = None

    @classmethod
    def of(
        cls,
        rows: Sequence[TrainingRow],
        batch_size: int,
        seed: int,
        *,
        same_source: bool = False,
        texts: RowTexts | None = None,
    ) -> Draws:
        """The draws of rows with the weights of their files."""
        return cls(strata_of(rows, same_source=same_source), batch_size, seed, same_source, texts)

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return sum(-(-count // self.batch_size) for count in self._counts().values())

    def _counts(self) -> dict[int, int]:
        """Draws per epoch by source."""
        counts: dict[int, int] = {}
        for stratum in self.strata:
            counts[stratum.source] = counts.get(stratum.source, 0) + stratum.draws
        return counts

    def plan(self, epoch: int) -> Plan:
        """The steps of an epoch."""
        drawn: dict[int, list[Draw]] = {}
        for stratum in self.strata:
            drawn.setdefault(stratum.source, []).extend(stratum.drawn(epoch, self.seed))
        order = random.Random(f"order {self.seed} {epoch}")
        steps: list[Sequence[Draw]] = []
        crowded = 0
        for draws in drawn.values():
            order.shuffle(draws)
            if self.texts is None:
                steps += [draws[start : start + self.batch_size] for start in range(0, len(draws), self.batch_size)]
            else:
                apart = _Apart(draws, [self.texts.of(*draw) for draw in draws], self.batch_size)
                steps += apart.steps
                crowded += apart.crowded
        if len(drawn) > 1 or self.texts is not None:
            order.shuffle(steps)
        return Plan(steps, crowded)


class _Apart:
    """Distributes draws over as many steps as they need, so that no text is in two rows of a step.

    Rows with the most frequent texts come first. A row goes to the first step with room after all steps that have one
    of its texts. Where there is none, a few steps with room are tried, and then the row shares a step with its text.
    """

    def __init__(self, draws: Sequence[Draw], texts: Sequence[Sequence[int]], size: int) -> None:
        self.size, self.draws = size, draws
        self.count = -(-len(draws) // size)
        self.filled: list[list[int]] = [[] for _ in range(self.count)]
        self.crowded = 0
        # The first step with room at or after each step.
        self.room = list(range(self.count + 1))
        flat = np.fromiter((text for some in texts for text in some), dtype=np.int64)
        _, inverse, counts = np.unique(flat, return_inverse=True, return_counts=True)
        self.numbers = array("q", inverse.astype(np.int64).tobytes())
        self.ends = list(accumulate(len(some) for some in texts))
        frequent = np.maximum.reduceat(counts[inverse], [0, *self.ends[:-1]])
        order = np.argsort(-frequent, kind="stable").tolist()
        after = array("q", bytes(8 * len(counts)))
        left = []
        for draw in order:
            own = self._texts(draw)
            step = self._room(max((after[text] for text in own), default=0)) if frequent[draw] > 1 else self._room(0)
            if step == self.count:
                left.append(draw)
                continue
            self._put(draw, step)
            for text in own:
                after[text] = step + 1
        for draw in left:
            self._squeeze(draw)

    @property
    def steps(self) -> list[list[Draw]]:
        """The draws of each step."""
        return [[self.draws[draw] for draw in step] for step in self.filled]

    def _texts(self, draw: int) -> array[int]:
        return self.numbers[self.ends[draw - 1] if draw else 0 : self.ends[draw]]

    def _room(self, step: int) -> int:
        root = step
        while self.room[root] != root:
            root = self.room[root]
        while self.room[step] != root:
            self.room[step], step = root, self.room[step]
        return root

    def _put(self, draw: int, step: int) -> None:
        self.filled[step].append(draw)
        if len(self.filled[step]) == self.size:
            self.room[step] = step + 1

    def _squeeze(self, draw: int) -> None:
        """Put a draw into a step without its texts, or, where none is found, with them."""
        own = set(self._texts(draw))
        first = step = self._room(0)
        for _ in range(_TRIED):
            if step == self.count:
                break
            if all(own.isdisjoint(self._texts(other)) for other in self.filled[step]):
                self._put(draw, step)
                return
            step = self._room(step + 1)
        self.crowded += 1
        self._put(draw, first)


def strata_of(rows: Sequence[TrainingRow], *, same_source: bool = False) -> list[Stratum]:
    """Rows by file, where files have weights, and by source, where the rows of a step come from one source."""
    files = np.zeros(len(rows), dtype=np.int64)
    weights: Sequence[float] = (1.0,)
    if isinstance(rows, RowStore) and any(weight != 1 for weight in rows.weights):
        files, weights = rows.file_numbers(), rows.weights
    sources = np.zeros(len(rows), dtype=np.int64)
    if same_source:
        sources = rows.source_numbers() if isinstance(rows, RowStore) else _sources(rows)
    strata = []
    for source in range(int(sources.max()) + 1):
        for file, weight in enumerate(weights):
            chosen = np.flatnonzero((files == file) & (sources == source))
            if len(chosen):
                strata.append(Stratum(chosen.astype(np.int64), weight, source))
    return strata


def _sources(rows: Sequence[TrainingRow]) -> npt.NDArray[np.int64]:
    numbers: dict[str | None, int] = {}
    return np.array([numbers.setdefault(row.source, len(numbers)) for row in rows], dtype=np.int64)
