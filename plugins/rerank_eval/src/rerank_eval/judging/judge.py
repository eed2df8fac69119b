"""`Judge`: what grades pairs of a query and a document."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

__all__ = ["Judge", "Pair", "Verdict"]


@dataclass(frozen=True, slots=True)
class Pair:
    """A query and one document, with the query's instruction where it has one."""

    query: str
    text: str
    instruction: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a judge said of a pair.

    Attributes:
        value: a grade, or the raw score of a reranker; None where there is none.
        malformed: the answer, where it holds no grade.
        error: the message, where the call failed.
        shortened: whether the judge read only the beginning of the document.
    """

    value: float | None
    malformed: str | None = None
    error: str | None = None
    shortened: bool = False


class Judge(Protocol):
    """Grades pairs.

    Attributes:
        name: for tables and messages.
        identity: what the verdicts depend on beside the pair; kept verdicts are found by it.
        is_graded: whether values are grades from 0 to 3; otherwise they are raw scores.
        cut: of raw scores: that from which a document is relevant, where the model knows it.
        is_calibrated: whether the cut is that of a calibration, which is better than one fitted to few labels.
    """

    name: str
    identity: str
    is_graded: bool
    cut: float | None
    is_calibrated: bool

    def verdicts(self, pairs: Sequence[Pair]) -> Iterator[tuple[int, Verdict]]:
        """Yield ``(position, verdict)`` of each pair, in any order, each when it is there.

        Raises:
            RerankError: the judge cannot work at all, such as a refused key.
        """
        ...
