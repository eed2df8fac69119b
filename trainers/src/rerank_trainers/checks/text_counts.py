"""How many texts rows have, and how many of them several rows share: objectives that compare all texts of a step do not
take equal texts for irrelevant, and `data.unique_texts` puts them into different steps."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

import numpy as np

from rerank_core.records.training_row import TrainingRow
from rerank_trainers.data.hashing import query_hash, text_hash

__all__ = ["TextCounts"]


@dataclass
class TextCounts:
    """Counts of the texts of the rows added so far; 8 bytes per text and row.

    Attributes:
        prompts: number of rows whose documents have prompts.
        instructions: number of rows with an instruction.
    """

    prompts: int = 0
    instructions: int = 0
    _queries: array[int] = field(default_factory=lambda: array("q"), repr=False)
    _documents: array[int] = field(default_factory=lambda: array("q"), repr=False)

    def add(self, row: TrainingRow) -> None:
        """Add a row; a document that it has twice counts once."""
        self._queries.append(query_hash(row.query, row.instruction))
        self._documents.extend(set(map(text_hash, row.texts)))
        self.prompts += row.prompts is not None
        self.instructions += row.instruction is not None

    def to_dict(self) -> dict[str, int]:
        """The counts as JSON values: distinct queries (with their instruction) and documents, and how many of them
        occur in several rows."""
        queries, shared_queries = _distinct(self._queries)
        documents, shared_documents = _distinct(self._documents)
        return {
            "queries": queries,
            "queries_in_several_rows": shared_queries,
            "documents": documents,
            "documents_in_several_rows": shared_documents,
            "rows_with_instruction": self.instructions,
            "rows_with_prompts": self.prompts,
        }


def _distinct(hashes: array[int]) -> tuple[int, int]:
    """Number of distinct hashes, and of those that occur more than once."""
    counts = np.unique(np.frombuffer(hashes, dtype=np.int64), return_counts=True)[1] if hashes else np.zeros(0)
    return len(counts), int((counts > 1).sum())
