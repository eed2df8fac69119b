"""Long documents: the windows of token ids that are scored, and how their scores are combined.

Pure functions of lengths and scores. FirstP and MaxP: Dai & Callan, *Deeper Text Understanding for IR with
Contextual Neural Language Modeling*, SIGIR 2019. Means of passages: Li et al., *PARADE*, 2020.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from rerank_core.errors import InputError, short

__all__ = [
    "STRATEGIES",
    "FirstP",
    "KMaxP",
    "LongDoc",
    "MaxP",
    "MeanP",
    "checked_windows",
    "combined_score",
    "covers_all",
    "default_overlap",
    "longdoc_of",
    "longest_first",
    "windows",
]

Window = tuple[int, int]


class LongDoc(Protocol):
    """A strategy: it chooses the windows of a document and combines their scores into one."""

    @property
    def name(self) -> str:
        """The strategy's name in options and in ``reranker.json``."""
        ...

    def windows(self, length: int, room: int, overlap: int) -> list[Window]:
        """At least one ``[start, stop)`` token window of a document of ``length`` tokens, each of at most ``room``
        tokens."""
        ...

    def combine(self, scores: Sequence[float]) -> float:
        """One raw score from the windows' raw scores (at least one), which are in text order."""
        ...


def default_overlap(room: int) -> int:
    """The number of tokens that neighbouring windows share: ``min(80, room // 4)``, as in BCEmbedding."""
    return min(80, room // 4)


def windows(length: int, room: int, overlap: int) -> list[Window]:
    """Windows of ``room`` tokens, each starting ``room - overlap`` tokens after the previous one, up to the end.

    Every token is in a window. An empty document has one empty window.

    >>> windows(length=10, room=4, overlap=1)
    [(0, 4), (3, 7), (6, 10)]
    >>> windows(length=3, room=4, overlap=1)
    [(0, 3)]

    Raises:
        InputError: ``room`` is below 1, or ``overlap`` is negative or not below ``room``.
    """
    if room < 1:
        raise InputError(f"room is {room!r}: the query and the template leave no token for the document")
    if not 0 <= overlap < room:
        raise InputError(f"overlap is {overlap!r}; it must be at least 0 and less than the {room} tokens of a window")
    spans = [(0, min(length, room))]
    while spans[-1][1] < length:
        start = spans[-1][0] + room - overlap
        spans.append((start, min(length, start + room)))
    return spans


def longest_first(query: int, doc: int, room: int) -> tuple[int, int]:
    """The number of tokens kept of a query and of a document that share ``room`` (Hugging Face's ``truncation=True``).

    A text of at most half the room is kept whole and the other is cut to the rest; where both are longer than half,
    each is cut to half.

    >>> longest_first(100, 602, 508), longest_first(401, 602, 508), longest_first(602, 52, 508)
    ((100, 408), (254, 254), (456, 52))
    """
    if query + doc <= room:
        return query, doc
    shorter, longer = min(query, doc), max(query, doc)
    longer = shorter if shorter > room else max(shorter, room - shorter)
    if shorter + longer > room:
        shorter = room // 2
        longer = shorter + room % 2
    return (shorter, longer) if query <= doc else (longer, shorter)


@dataclass(frozen=True)
class FirstP:
    """Scores only the first window; the rest of the document is reported as truncated."""

    name: ClassVar[str] = "firstp"

    def windows(self, length: int, room: int, overlap: int) -> list[Window]:
        return windows(min(length, room), room, overlap)

    def combine(self, scores: Sequence[float]) -> float:
        return scores[0]


@dataclass(frozen=True)
class MaxP:
    """The maximum of the window scores."""

    name: ClassVar[str] = "maxp"

    def windows(self, length: int, room: int, overlap: int) -> list[Window]:
        return windows(length, room, overlap)

    def combine(self, scores: Sequence[float]) -> float:
        return max(scores)


@dataclass(frozen=True)
class MeanP:
    """The mean of the window scores."""

    name: ClassVar[str] = "meanp"

    def windows(self, length: int, room: int, overlap: int) -> list[Window]:
        return windows(length, room, overlap)

    def combine(self, scores: Sequence[float]) -> float:
        return sum(scores) / len(scores)


@dataclass(frozen=True)
class KMaxP:
    """The mean of the ``k`` highest window scores (of all, where there are fewer).

    >>> KMaxP(k=2).combine([1.0, 5.0, 3.0])
    4.0
    """

    k: int = 3

    def __post_init__(self) -> None:
        if isinstance(self.k, bool) or not isinstance(self.k, int) or self.k < 1:
            raise InputError(f"KMaxP(k={short(self.k)}): k must be a positive integer")

    @property
    def name(self) -> str:
        return f"kmaxp:{self.k}"

    def windows(self, length: int, room: int, overlap: int) -> list[Window]:
        return windows(length, room, overlap)

    def combine(self, scores: Sequence[float]) -> float:
        best = sorted(scores, reverse=True)[: self.k]
        return sum(best) / len(best)


def checked_windows(strategy: LongDoc, length: int, room: int, overlap: int) -> list[Window]:
    """The windows of a strategy, checked, because a user may have written the strategy.

    Raises:
        InputError: there is no window, a window is outside the document or longer than ``room``, or the windows are
            not in order.
    """
    returned = strategy.windows(length, room, overlap)
    try:
        spans = [(operator.index(start), operator.index(stop)) for start, stop in returned]
    except (TypeError, ValueError):
        spans = []
    valid = all(0 <= start <= stop <= length and stop - start <= room for start, stop in spans)
    if not spans or not valid or spans != sorted(spans):
        raise InputError(
            f"the strategy {short(strategy)} gave the windows {short(returned)} for {length} tokens and room for "
            f"{room}; they must be at least one (start, stop), inside the document, no longer than that, and in order"
        )
    return spans


def combined_score(strategy: LongDoc, scores: Sequence[float]) -> float:
    """The score of a document by a strategy, checked, because a user may have written the strategy.

    Raises:
        InputError: the strategy returned no number.
    """
    score: Any = strategy.combine(scores)
    try:
        return float(score)
    except (TypeError, ValueError, OverflowError):
        raise InputError(
            f"the strategy {short(strategy)} combined {short(scores)} to {short(score)}; it must be a number"
        ) from None


def covers_all(spans: Sequence[Window], length: int) -> bool:
    """Whether windows, in order of their starts, contain every token of a document.

    >>> covers_all([(0, 4), (3, 7)], 7), covers_all([(0, 4), (5, 7)], 7)
    (True, False)
    """
    end = 0
    for start, stop in spans:
        if start > end:
            return False
        end = max(end, stop)
    return end == length


STRATEGIES = ("firstp", "maxp", "meanp", "kmaxp", "kmaxp:K")


def longdoc_of(value: str | LongDoc) -> LongDoc:
    """The strategy of a name; a strategy object is returned unchanged.

    >>> longdoc_of("kmaxp:2")
    KMaxP(k=2)

    Raises:
        InputError: the name is unknown, or the object is no strategy.
    """
    if isinstance(value, str):
        plain: dict[str, LongDoc] = {"firstp": FirstP(), "maxp": MaxP(), "meanp": MeanP(), "kmaxp": KMaxP()}
        if value in plain:
            return plain[value]
        name, _, k = value.partition(":")
        if name == "kmaxp" and re.fullmatch("[0-9]{1,9}", k):
            return KMaxP(int(k))
    elif (
        not isinstance(value, type)
        and callable(getattr(value, "windows", None))
        and callable(getattr(value, "combine", None))
    ):
        return value
    raise InputError(f"longdoc is {short(value)}; it must be one of {', '.join(STRATEGIES)}, or a strategy object")
