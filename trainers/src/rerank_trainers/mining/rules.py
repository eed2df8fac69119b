"""Which candidates become negatives: pure functions of ranks and scores."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rerank_core.errors import InputError, one_of, short

__all__ = ["Candidate", "MiningRules", "choose_negatives", "highest_allowed"]


@dataclass(frozen=True)
class MiningRules:
    """How negatives are chosen.

    Attributes:
        negatives: of each row, at most.
        depth: candidates that are looked at, the query's positives not counted.
        from_rank, to_rank: the first and the last rank (1 is best) to take from; by default all. The best ranks of a
            good retriever are often positives that nobody labelled.
        absolute_margin: drop candidates that score above ``positive - absolute_margin``.
        relative_margin: drop those above ``positive - relative_margin * |positive|``. 0.05 is NV-Retriever's 95 %
            (Moreira et al., 2024) where scores are positive; where they are negative, 95 % of the score would be above
            it, so the same distance is kept below.
        anchor: which of a row's positives margins are measured from: its ``worst`` (strict) or its ``best``.
        strategy: ``top`` takes the hardest, ``random`` any, drawn by ``seed``, the query and its positives alone.
        keep_own_negatives: whether a row's own negatives stay.
        fill: ``random`` fills rows up with texts of the corpus that were no candidates; by default they stay short.
        negative_label: the label that negatives get; documents with a higher one are positives.
    """

    negatives: int = 8
    depth: int = 100
    from_rank: int = 1
    to_rank: int | None = None
    absolute_margin: float | None = None
    relative_margin: float | None = None
    anchor: Literal["worst", "best"] = "worst"
    strategy: Literal["top", "random"] = "top"
    seed: int = 42
    keep_own_negatives: bool = True
    fill: Literal["none", "random"] = "none"
    negative_label: float = 0.0

    def __post_init__(self) -> None:
        for name in ("negatives", "depth", "from_rank"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {short(getattr(self, name))}; it must be at least 1")
        if not self.from_rank <= (self.depth if self.to_rank is None else self.to_rank) <= self.depth:
            raise InputError(
                f"from_rank={self.from_rank!r}, to_rank={self.to_rank!r}, depth={self.depth!r}: ranks are taken from "
                "from_rank to to_rank, and both are at most depth"
            )
        for name in ("absolute_margin", "relative_margin"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise InputError(f"{name} is {short(value)}; it must be a number of at least 0")
        one_of(self.anchor, ("worst", "best"), "anchor")
        one_of(self.strategy, ("top", "random"), "strategy")
        one_of(self.fill, ("none", "random"), "fill")

    @property
    def uses_margins(self) -> bool:
        """Whether scores of positives are needed."""
        return self.absolute_margin is not None or self.relative_margin is not None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A text of the corpus by its place, and the score that margins compare."""

    position: int
    score: float


def highest_allowed(positive: float, margin: float) -> float:
    """The highest score that a negative may have beside a positive's, by a relative margin.

    >>> highest_allowed(10.0, 0.05), highest_allowed(-10.0, 0.05)
    (9.5, -10.5)
    """
    return positive - margin * abs(positive)


def choose_negatives(
    candidates: Sequence[Candidate], positives: Sequence[float], rules: MiningRules, key: str
) -> tuple[list[int], Counter[str]]:
    """The places of the negatives, hardest first, and how many candidates each rule dropped.

    Args:
        candidates: best first, none of them a positive.
        positives: scores of the row's positives; at least one where there are margins and candidates.
        key: what a random choice of this row depends on beside the seed.
    """
    dropped: Counter[str] = Counter()
    window = slice(rules.from_rank - 1, rules.to_rank)
    inside = candidates[window]
    dropped["before from_rank"] = len(candidates[: rules.from_rank - 1])
    dropped["after to_rank"] = len(candidates) - dropped["before from_rank"] - len(inside)
    kept: list[int] = []
    anchor = (min(positives) if rules.anchor == "worst" else max(positives)) if rules.uses_margins and inside else 0.0
    for candidate in inside:
        if rules.absolute_margin is not None and candidate.score > anchor - rules.absolute_margin:
            dropped["absolute margin"] += 1
        elif rules.relative_margin is not None and candidate.score > highest_allowed(anchor, rules.relative_margin):
            dropped["relative margin"] += 1
        else:
            kept.append(candidate.position)
    if rules.strategy == "random" and len(kept) > rules.negatives:
        drawn = random.Random(f"{rules.seed}:{key}").sample(range(len(kept)), rules.negatives)
        kept = [kept[place] for place in sorted(drawn)]
    return kept[: rules.negatives], +dropped
