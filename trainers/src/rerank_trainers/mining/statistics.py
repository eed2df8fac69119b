"""What a mining run did, to be read before anybody trains on it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

__all__ = ["MiningStatistics"]


@dataclass
class MiningStatistics:
    """Counts, filled while rows are mined.

    Attributes:
        rows: mined or passed through.
        without_positive: rows passed through unchanged, since nothing says what a negative of theirs would be.
        candidates: texts found and looked at, before rules.
        dropped: candidates by the rule that dropped them, and what was met on the way to them: ``positive of the
            query`` (of this row or of another row with the same query) and ``own document`` (already in the row).
        negatives: mined, texts of ``filled`` not counted.
        filled: random texts that ``fill`` added.
        mined_per_row: rows by the number of their mined negatives.
        wanted: negatives that a row should have.
        own_negatives_left_out: documents that ``keep_own_negatives=False`` took out of the rows.
        scores_left_out: rows whose teacher's scores were removed, since they do not cover the new documents.
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
        """Rows for which nothing was mined."""
        return self.mined_per_row[0]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
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
