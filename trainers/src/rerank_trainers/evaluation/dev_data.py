"""The rows of all dev sets of a run, as one sequence that knows its sets."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, TypeAlias, overload

from rerank_core.records.training_row import TrainingRow
from rerank_trainers.data.row_store import RowStore
from rerank_trainers.retrieval.corpus import Corpus

__all__ = ["DevData", "DevKind", "DevPart"]

DevKind: TypeAlias = Literal["files", "corpus", "pairs"]


@dataclass(frozen=True, eq=False)
class DevPart:
    """The rows of one dev set.

    Attributes:
        name: empty for a single dev set without a name.
        kind: whether its rows are ranked, search a corpus, or are pairs with a score.
        corpus: the texts that its queries search.
    """

    name: str
    kind: DevKind
    rows: Sequence[TrainingRow]
    corpus: Corpus | None = None


class DevData(Sequence[TrainingRow]):
    """The rows of all dev sets, one set after the other."""

    def __init__(self, parts: Sequence[DevPart]) -> None:
        self.parts = tuple(parts)
        self._ends = list(accumulate(len(part.rows) for part in self.parts))

    @classmethod
    def of(cls, rows: Sequence[TrainingRow]) -> DevData:
        """Rows as dev data: a single set whose documents are ranked, unless they are dev data already."""
        return rows if isinstance(rows, DevData) else cls([DevPart("", "files", rows)])

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, index: int) -> TrainingRow: ...
    @overload
    def __getitem__(self, index: slice) -> list[TrainingRow]: ...
    def __getitem__(self, index: int | slice) -> TrainingRow | list[TrainingRow]:
        if isinstance(index, slice):
            return [self[at] for at in range(len(self))[index]]
        at = range(len(self))[index]
        part = bisect_right(self._ends, at)
        return self.parts[part].rows[at - (self._ends[part - 1] if part else 0)]

    @property
    def named(self) -> bool:
        """Whether its sets have names, or are of another kind than rows whose documents are ranked."""
        return any(part.name or part.kind != "files" for part in self.parts)

    @property
    def source_counts(self) -> dict[str, int]:
        """Number of rows by set and source."""
        return {
            f"{part.name}/{source}" if part.name else source: count
            for part in self.parts
            if isinstance(part.rows, RowStore)
            for source, count in part.rows.source_counts.items()
        }

    def fingerprint(self) -> str:
        """SHA-256 over the files of all sets."""
        digests = [part.rows.fingerprint() for part in self.parts if isinstance(part.rows, RowStore)]
        return digests[0] if len(digests) == 1 else hashlib.sha256(" ".join(digests).encode()).hexdigest()

    def layout(self) -> list[tuple[str, str, int, str | None]]:
        """Name, kind, rows and digest of the corpus of each set, which decide the metrics beside the rows."""
        return [
            (part.name, part.kind, len(part.rows), None if part.corpus is None else part.corpus.fingerprint())
            for part in self.parts
        ]
