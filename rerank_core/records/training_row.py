"""`TrainingRow`: one query and its documents. Every format is converted to it, and every objective reads it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["TrainingRow"]


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """One query and its documents: a pair, a triplet, a graded list, or documents with a teacher's scores.

    Attributes:
        docs: the documents, at least one; rows may differ in their number.
        labels: relevance label of each document, as in the file (0 and 1, or grades such as 0 to 3); a document with
            more than the lowest grade is relevant.
        scores: a teacher's score of each document.
        instruction: task description for models that follow instructions.
        source: origin of the row, by which statistics are grouped; by default the name of its file.
        id: id of the row; ``FILE:LINE`` if its record has none.
        prompts: text that is put before each document when a model reads it, one per document, empty for none.
    """

    query: str
    docs: tuple[str, ...]
    labels: tuple[float, ...] | None = None
    scores: tuple[float, ...] | None = None
    instruction: str | None = None
    source: str | None = None
    id: str | None = None
    prompts: tuple[str, ...] | None = None

    @property
    def texts(self) -> tuple[str, ...]:
        """The documents as a model reads them, each after its prompt.

        >>> TrainingRow("q", ("a", "b"), prompts=("passage: ", "")).texts
        ('passage: a', 'b')
        """
        if self.prompts is None:
            return self.docs
        return tuple(prompt + doc for prompt, doc in zip(self.prompts, self.docs, strict=True))
