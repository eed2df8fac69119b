"""Selects negatives among the candidates: pure functions of ranks and scores."""

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
        negatives: maximum number of negatives per row.
        depth: number of candidates per row, without the positives of the query.
        from_rank, to_rank: first and last rank (1 is best) of the candidates that are used; by default all. The best
            ranks of a good retriever are often positives without a label.
        absolute_margin: drop candidates that score above ``positive - absolute_margin``.
        relative_margin: drop candidates that score above ``positive - relative_margin * |positive|``. For positive
            scores, 0.05 is the 95 % of NV-Retriever (Moreira et al., 2024). 95 % of a negative score would be higher
            than the score, so the margin is subtracted there too.
        anchor: the positive of the row that margins refer to: the ``worst`` (strict) or the ``best``.
        strategy: ``top`` takes the hardest candidates, ``random`` a random choice that depends only on ``seed``, the
            query and its positives.
        seed: seed of random choices.
        keep_own_negatives: whether the negatives that a row already has are kept.
        fill: ``random`` adds random texts of the corpus to rows with too few negatives; by default nothing is added.
        negative_label: label of the mined negatives; documents with a higher label are positives.
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
        """Whether a margin is set, so that the scores of positives are needed."""
        return self.absolute_margin is not None or self.relative_margin is not None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A text by its position in the corpus, with the score that margins compare."""

    position: int
    score: float


def highest_allowed(positive: float, margin: float) -> float:
    """The highest score that a relative margin allows a negative, given the score of a positive.

    >>> highest_allowed(10.0, 0.05), highest_allowed(-10.0, 0.05)
    (9.5, -10.5)
    """
    return positive - margin * abs(positive)


def choose_negatives(
    candidates: Sequence[Candidate], positives: Sequence[float], rules: MiningRules, key: str
) -> tuple[list[int], Counter[str]]:
    """The corpus positions of the negatives, hardest first, and the number of candidates that each rule dropped.

    Args:
        candidates: best first, without positives.
        positives: scores of the row's positives; at least one if there are margins and candidates.
        key: identifies the row; together with the seed it determines random choices.
    """
    dropped: Counter[str] = Counter()
    window = slice(rules.from_rank - 1, rules.to_rank)
    inside = candidates[window]
    dropped["before from_rank"] = len(candidates[: rules.from_rank - 1])
    dropped["after to_rank"] = len(candidates) - dropped["before from_rank"] - len(inside)
    chosen: list[int] = []
    anchor = (min(positives) if rules.anchor == "worst" else max(positives)) if rules.uses_margins and inside else 0.0
    for candidate in inside:
        if rules.absolute_margin is not None and candidate.score > anchor - rules.absolute_margin:
            dropped["absolute margin"] += 1
        elif rules.relative_margin is not None and candidate.score > highest_allowed(anchor, rules.relative_margin):
            dropped["relative margin"] += 1
        else:
            chosen.append(candidate.position)
    if rules.strategy == "random" and len(chosen) > rules.negatives:
        drawn = random.Random(f"{rules.seed}:{key}").sample(range(len(chosen)), rules.negatives)
        chosen = [chosen[index] for index in sorted(drawn)]
    return chosen[: rules.negatives], +dropped
