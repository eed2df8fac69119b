"""Which rows make a step, and which of a row's documents it sees: pure functions of seed and epoch.

Nothing is remembered between epochs, so a resumed run, any number of workers and any number of processes draw the same.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

__all__ = ["Item", "Steps", "choose"]


@dataclass(frozen=True, slots=True)
class Item:
    """A row to be read for a step.

    Attributes:
        weight: of its loss: one over the rows of the whole step, times the number of processes, whose gradients are
            averaged. 0 for a row that only keeps a process busy which would have none.
    """

    row: int
    epoch: int
    weight: float


class Steps:
    """The steps of an epoch, as this process takes part in them: one list of `Item` a step.

    Args:
        rows: how many there are.
        batch_size: rows of a step, over all processes.
    """

    def __init__(self, rows: int, batch_size: int, *, seed: int, rank: int = 0, world: int = 1) -> None:
        self.rows, self.batch_size, self.seed, self.rank, self.world = rows, batch_size, seed, rank, world
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """The order of another epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.rows // self.batch_size)

    def __iter__(self) -> Iterator[list[Item]]:
        order = list(range(self.rows))
        random.Random(f"order {self.seed} {self.epoch}").shuffle(order)
        for start in range(0, self.rows, self.batch_size):
            step = order[start : start + self.batch_size]
            weight = self.world / len(step)
            own = [Item(row, self.epoch, weight) for row in step[self.rank :: self.world]]
            yield own or [Item(step[0], self.epoch, 0.0)]


def choose(labels: Sequence[float] | None, count: int, size: int, *, seed: int, row: str, epoch: int) -> list[int]:
    """Which ``size`` of a row's ``count`` documents an epoch sees, in the row's order.

    One relevant document and others, each in turn: every one is seen before any is seen twice. Where irrelevant ones
    do not suffice, further relevant ones fill the group. Without labels all are alike.

    Args:
        labels: more than 0 is relevant; None where there are none.
        size: 0 for all.
        row: the row's id.
    """
    if not size or count <= size:
        return list(range(count))
    shuffled = list(range(count))
    random.Random(f"documents {seed} {row}").shuffle(shuffled)
    if labels is None:
        return sorted(_turn(shuffled, size, epoch))
    relevant = [doc for doc in shuffled if labels[doc] > 0]
    others = [doc for doc in shuffled if labels[doc] <= 0]
    first = _turn(relevant, 1, epoch) if relevant else []
    rest = _turn(others, min(size - len(first), len(others)), epoch)
    more = [doc for doc in relevant if doc not in first]
    return sorted([*first, *rest, *_turn(more, size - len(first) - len(rest), epoch)])


def _turn(documents: Sequence[int], count: int, epoch: int) -> list[int]:
    """``count`` of the documents, going on each epoch where the last one ended."""
    return [documents[(epoch * count + place) % len(documents)] for place in range(count)] if documents else []
