"""`JudgeFacts`: what a judge did on a set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["JudgeFacts"]


@dataclass(frozen=True)
class JudgeFacts:
    """What a judge did on a set.

    Attributes:
        judge: its name.
        depth: the pool has the ``depth`` best candidates of each model and of the first stage.
        pairs: pairs that it was to grade.
        labelled: of these, pairs with a hand-made label, some of them outside the pool.
        kept: of these, verdicts that were on disk already.
        malformed: answers without a grade, with an example; their pairs have no label.
        failed: calls that failed, with the first message; their pairs have no label.
        shortened: documents of which it read only the beginning.
        grades: number of pairs by grade.
        cut: of a reranker: the raw score from which a document is relevant, and ``cut_from`` where it comes from.
        is_ranked: the judge is one of the models that it judges, which it will prefer.
    """

    judge: str
    depth: int
    pairs: int
    labelled: int
    kept: int
    malformed: int
    malformed_example: str | None
    failed: int
    failure: str | None
    shortened: int
    grades: Mapping[float, int]
    cut: float | None = None
    cut_from: str | None = None
    is_ranked: bool = False

    def notes(self) -> list[str]:
        """A sentence for each thing that the reader of a figure must know."""
        grades = ", ".join(f"{count:,} of grade {grade:g}" for grade, count in sorted(self.grades.items()))
        pool = f"the {self.depth} best candidates of each model"
        hand = f" ({self.labelled:,} with a hand-made label)" if self.labelled else ""
        lines = [f"labels are those of {self.judge}, for {pool}: {self.pairs:,} pairs{hand}, {grades or 'none graded'}"]
        if self.cut is not None:
            lines.append(f"a document is relevant from a raw score of {self.cut:.3g} ({self.cut_from})")
        if self.malformed:
            lines.append(f"{self.malformed:,} answers had no grade, such as {self.malformed_example!r:.80}: not judged")
        if self.failed:
            lines.append(f"{self.failed:,} calls failed: not judged; the first: {self.failure}")
        if self.shortened:
            lines.append(f"the judge read only the beginning of {self.shortened:,} documents")
        if self.is_ranked:
            lines.append("the judge is one of the models, and prefers its own order")
        return lines
