"""Statistics of a mining run, to look at before training on its output."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

__all__ = ["MiningStatistics"]


@dataclass
class MiningStatistics:
    """Counts, filled while rows are mined.

    Attributes:
        wanted: number of negatives per row in the rules.
        rows: number of rows, mined or passed through.
        without_positive: rows without a positive, which are passed through unchanged.
        candidates: candidates retrieved, before the rules are applied.
        dropped: number of candidates dropped by each rule, and of search results that are no candidates: ``positive of
            the query`` (in this row or another row with the same query) and ``own document`` (already in the row).
        negatives: mined negatives, without those of ``filled``.
        filled: random texts that ``fill`` added.
        mined_per_row: number of rows by their number of mined negatives.
        own_negatives_left_out: documents that ``keep_own_negatives=False`` removed from the rows.
        scores_left_out: rows whose teacher scores were removed, because the new documents have none.
    """

    wanted: int = 0
    rows: int = 0
    without_positive: int = 0
    candidates: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    negatives: int = 0
    filled: int = 0
    mined_per_row: Counter[int] = field(default_factory=Counter)
    own_negatives_left_out: int = 0
    scores_left_out: int = 0

    @property
    def short(self) -> int:
        """Rows with fewer mined negatives than wanted."""
        return sum(rows for count, rows in self.mined_per_row.items() if count < self.wanted)

    @property
    def empty(self) -> int:
        """Rows for which no negative was mined."""
        return self.mined_per_row[0]

    def to_dict(self) -> dict[str, Any]:
        """The statistics as JSON values."""
        return {
            "rows": self.rows,
            "without_positive": self.without_positive,
            "wanted": self.wanted,
            "candidates": self.candidates,
            "dropped": dict(sorted(self.dropped.items())),
            "negatives": self.negatives,
            "filled": self.filled,
            "mined_per_row": {str(count): rows for count, rows in sorted(self.mined_per_row.items())},
            "short": self.short,
            "empty": self.empty,
            "own_negatives_left_out": self.own_negatives_left_out,
            "scores_left_out": self.scores_left_out,
        }
