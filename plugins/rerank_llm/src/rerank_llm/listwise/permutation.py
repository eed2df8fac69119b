"""Reads the order of a list from a chat model's answer, and counts the faults of the answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rerank_llm.thoughts import without_reasoning

__all__ = ["Answer", "parse"]

_NUMBER = re.compile(r"\d+")
_WELL_FORMED = re.compile(r"\[\d+\](?:\s*>\s*\[\d+\])*\s*\.?")


@dataclass(frozen=True)
class Answer:
    """The permutation in an answer.

    Attributes:
        order: positions, best first; every position once.
        well_formed: whether the answer was ``[2] > [1] > ...`` with every identifier once, and nothing else.
        missing: number of identifiers that the answer lacks; they follow in their old order.
        duplicates: number of repeated identifiers, which are ignored.
        out_of_range: number of integers that are no identifier, which are ignored.
        thought: whether the answer had a reasoning section, which is not read.
    """

    order: tuple[int, ...]
    well_formed: bool = True
    missing: int = 0
    duplicates: int = 0
    out_of_range: int = 0
    thought: bool = False

    @property
    def unread(self) -> bool:
        """Whether the answer named no passage, so that all stay in their old order."""
        return self.missing == len(self.order) > 0


def parse(text: str | None, count: int, special: Sequence[str] = ()) -> Answer:
    """The order of ``count`` passages in an answer, by RankGPT's rule: every number outside a reasoning section counts.

    Args:
        special: special tokens, which are removed first because they may hold numbers.

    >>> parse("[2] > [3] > [2] > [9]", 3)
    Answer(order=(1, 2, 0), well_formed=False, missing=1, duplicates=1, out_of_range=1, thought=False)
    """
    reply = without_reasoning(text or "")
    text = reply.answer
    for token in special:
        text = text.replace(token, "")
    order: list[int] = []
    duplicates = outside = 0
    for digits in _NUMBER.findall(text):
        # int() refuses a number of thousands of digits; it is no identifier anyway.
        number = int(digits) - 1 if len(digits) < 10 else -1
        if not 0 <= number < count:
            outside += 1
        elif number in order:
            duplicates += 1
        else:
            order.append(number)
    rest = [number for number in range(count) if number not in order]
    repaired = bool(rest or duplicates or outside)
    well_formed = not repaired and _WELL_FORMED.fullmatch(text.strip()) is not None
    return Answer((*order, *rest), well_formed, len(rest), duplicates, outside, reply.thought)
