"""`TrainingRow`: one query and its documents, what every format becomes and every objective reads."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["TrainingRow"]


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """One query and its documents, ragged: pairs, triplets, graded lists and teachers' scores are all cases of it.

    Attributes:
        docs: at least one.
        labels: what each document is worth, as the file says it (0 and 1, or grades such as 0 to 3); more than the
            lowest grade is relevant.
        scores: a teacher's score of each document.
        instruction: what makes a document relevant, for models that follow one.
        source: where the row comes from, to count by; by default its file.
        id: of the row; ``FILE:LINE`` where it brings none.
    """

    query: str
    docs: tuple[str, ...]
    labels: tuple[float, ...] | None = None
    scores: tuple[float, ...] | None = None
    instruction: str | None = None
    source: str | None = None
    id: str | None = None
