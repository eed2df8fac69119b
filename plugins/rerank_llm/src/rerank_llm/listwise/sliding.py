"""The sliding window: orders a list that is longer than a prompt, from its end to its start."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from rerank_core import Identified, InputError, Permutation
from rerank_llm.listwise.permutation import Answer

__all__ = ["SlidingRanker", "WindowRanker", "check_at_least"]


_COUNTED = ("windows", "well_formed", "unread", "missing", "duplicates", "out_of_range", "thoughts")


def check_at_least(name: str, value: int, least: int) -> None:
    """Refuse an option whose value is too small.

    Raises:
        InputError: ``value`` is below ``least``.
    """
    if value < least:
        raise InputError(f"{name} is {value!r}; it must be an integer of at least {least}")


class WindowRanker(Protocol):
    """Orders the passages of one window."""

    def order(self, query: str, passages: Sequence[str]) -> tuple[Answer, Mapping[str, int]]:
        """The answer, and counts that are added up over the windows, such as tokens."""
        ...

    def close(self) -> None: ...


class SlidingRanker:
    """Orders windows of ``window`` passages from the end of the list to its start, each ``stride`` passages further, so
    that the best passages move to the top (Sun et al., 2023).

    The ranking's statistics count the faults of the answers.

    Raises:
        InputError: an invalid window or stride.
    """

    def __init__(self, window_ranker: WindowRanker, *, window: int, stride: int) -> None:
        if window < 2 or not 1 <= stride < window:
            raise InputError(
                f"window is {window!r} and stride {stride!r}; a window holds at least 2 passages and moves by at "
                "least 1, less than its own length"
            )
        self._window_ranker = window_ranker
        self._window, self._stride = window, stride

    def identity(self) -> Mapping[str, Any]:
        """What the order depends on beside options and files; see `rerank_core.Identified`."""
        return self._window_ranker.identity() if isinstance(self._window_ranker, Identified) else {}

    def rank(self, query: str, docs: Sequence[str]) -> Permutation:
        order = list(range(len(docs)))
        counts: Counter[str] = Counter(dict.fromkeys(_COUNTED, 0))
        stop = len(order)
        while len(order) > 1:
            start = max(0, stop - self._window)
            window = order[start:stop]
            answer, extra = self._window_ranker.order(query, [docs[doc] for doc in window])
            order[start:stop] = [window[position] for position in answer.order]
            counts.update(windows=1, well_formed=int(answer.well_formed), missing=answer.missing)
            counts.update(duplicates=answer.duplicates, out_of_range=answer.out_of_range)
            counts.update(unread=int(answer.unread), thoughts=int(answer.thought))
            counts.update(extra)
            if start == 0:
                break
            stop -= self._stride
        return Permutation(order, dict(counts))

    def close(self) -> None:
        self._window_ranker.close()
