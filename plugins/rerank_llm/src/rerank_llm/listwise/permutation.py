"""What an answer says about the order of a list, and what had to be mended to read it so."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rerank_llm.thoughts import said

__all__ = ["Answer", "parse"]

_NUMBER = re.compile(r"\d+")
_WELL_FORMED = re.compile(r"\[\d+\](?:\s*>\s*\[\d+\])*\s*\.?")


@dataclass(frozen=True)
class Answer:
    """A permutation, read off an answer.

    Attributes:
        order: positions, the best first; every position once.
        well_formed: whether the answer was ``[2] > [1] > ...`` with every identifier once, and nothing else.
        missing: identifiers that it left out; they follow in their old order.
        duplicates: identifiers that came again, which is overlooked.
        out_of_range: numbers that are no identifier, overlooked too.
        thought: whether it held a thought, which is not read.
    """

    order: tuple[int, ...]
    well_formed: bool = True
    missing: int = 0
    duplicates: int = 0
    out_of_range: int = 0
    thought: bool = False

    @property
    def unread(self) -> bool:
        """Whether it named no passage, so that all stay in their old order."""
        return self.missing == len(self.order) > 0


def parse(text: str | None, count: int, special: Sequence[str] = ()) -> Answer:
    """The order of ``count`` passages that an answer gives, by RankGPT's rule: every number counts, wherever it stands
    outside a thought.

    Args:
        special: tokens that are no words, and may hold numbers.

    >>> parse("[2] > [3] > [2] > [9]", 3)
    Answer(order=(1, 2, 0), well_formed=False, missing=1, duplicates=1, out_of_range=1, thought=False)
    """
    words = said(text or "")
    text = words.answer
    for token in special:
        text = text.replace(token, "")
    order: list[int] = []
    duplicates = outside = 0
    for digits in _NUMBER.findall(text):
        # A number of thousands of digits is refused by int(), and is no identifier.
        number = int(digits) - 1 if len(digits) < 10 else -1
        if not 0 <= number < count:
            outside += 1
        elif number in order:
            duplicates += 1
        else:
            order.append(number)
    left = [number for number in range(count) if number not in order]
    mended = bool(left or duplicates or outside)
    well_formed = not mended and _WELL_FORMED.fullmatch(text.strip()) is not None
    return Answer((*order, *left), well_formed, len(left), duplicates, outside, words.thought)
