"""The sliding window: a list longer than a prompt, ordered from its end to its beginning."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol

from rerank_core import InputError, Permutation
from rerank_llm.listwise.permutation import Answer

__all__ = ["Judge", "SlidingRanker", "check_at_least"]


_COUNTED = ("windows", "well_formed", "unread", "missing", "duplicates", "out_of_range", "thoughts")


def check_at_least(name: str, value: int, least: int) -> None:
    """Refuse an option whose value is too small.

    Raises:
        InputError: ``value`` is below ``least``.
    """
    if value < least:
        raise InputError(f"{name} is {value!r}; it must be an integer of at least {least}")


class Judge(Protocol):
    """Who orders one window."""

    def order(self, query: str, passages: Sequence[str]) -> tuple[Answer, Mapping[str, int]]:
        """The answer, and counts to be added up over the windows (tokens, say)."""
        ...

    def close(self) -> None: ...


class SlidingRanker:
    """Windows of ``window`` passages, each ``stride`` nearer to the top; the best bubble up (Sun et al., 2023).

    What had to be mended in the answers is in the ranking's statistics.

    Raises:
        InputError: a window or stride that cannot be.
    """

    def __init__(self, judge: Judge, *, window: int, stride: int) -> None:
        if window < 2 or not 1 <= stride < window:
            raise InputError(
                f"window is {window!r} and stride {stride!r}; a window holds at least 2 passages and moves by at "
                "least 1, less than its own length"
            )
        self._judge = judge
        self._window, self._stride = window, stride

    def rank(self, query: str, docs: Sequence[str]) -> Permutation:
        order = list(range(len(docs)))
        counts: Counter[str] = Counter(dict.fromkeys(_COUNTED, 0))
        stop = len(order)
        while len(order) > 1:
            start = max(0, stop - self._window)
            inside = order[start:stop]
            answer, more = self._judge.order(query, [docs[place] for place in inside])
            order[start:stop] = [inside[place] for place in answer.order]
            counts.update(windows=1, well_formed=int(answer.well_formed), missing=answer.missing)
            counts.update(duplicates=answer.duplicates, out_of_range=answer.out_of_range)
            counts.update(unread=int(answer.unread), thoughts=int(answer.thought))
            counts.update(more)
            if start == 0:
                break
            stop -= self._stride
        return Permutation(order, dict(counts))

    def close(self) -> None:
        self._judge.close()
