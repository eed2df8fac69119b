"""Which documents of a row a step sees: drawn anew each epoch, in rotation, and a function of (seed, row, epoch)
alone."""

from __future__ import annotations

import random
from collections.abc import Sequence

__all__ = ["choose"]

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
