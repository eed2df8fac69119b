"""Texts as 8 bytes: how millions of them are compared without being kept."""

from __future__ import annotations

import hashlib
import unicodedata
from array import array

import numpy as np
import numpy.typing as npt

__all__ = ["HashIndex", "digest", "find_repeats", "normalise"]


def digest(*parts: str | None) -> int:
    """64 bits of BLAKE2b over ``parts``, whose borders and Nones count.

    >>> digest("a", "b") == digest("ab"), digest("a", None) == digest("a", "")
    (False, False)
    """
    state = hashlib.blake2b(digest_size=8)
    for part in parts:
        # Text of a broken source may hold lone surrogates.
        data = b"" if part is None else part.encode("utf-8", "surrogatepass")
        state.update(b"\xff" if part is None else len(data).to_bytes(8, "little"))
        state.update(data)
    return int.from_bytes(state.digest(), "little")


def normalise(text: str) -> str:
    """``text`` without what does not make it another question: case, width, runs of white space.

    >>> normalise("  What  is ＡＢＣ ")
    'what is abc'
    """
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def find_repeats(hashes: array[int]) -> list[tuple[int, int]]:
    """``(place, first place of the same hash)`` for all that come again, by place.

    >>> find_repeats(array("Q", [7, 5, 7, 5, 7]))
    [(2, 0), (3, 1), (4, 0)]
    """
    values = np.frombuffer(hashes, dtype=np.uint64)
    order = np.argsort(values, kind="stable")
    again = np.concatenate([[False], values[order][1:] == values[order][:-1]]) if len(hashes) else np.zeros(0, np.bool_)
    run = np.maximum.accumulate(np.where(again, 0, np.arange(len(hashes))))
    return sorted(zip(order[again].tolist(), order[run[again]].tolist(), strict=True))


class HashIndex:
    """From hashes to the numbers they were added with; 16 bytes each, where a dict takes about 100.

    All are added before the first is looked for.
    """

    def __init__(self) -> None:
        self._hashes, self._numbers = array("Q"), array("Q")
        self._sorted: tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]] | None = None

    def add(self, value: int, number: int) -> None:
        """Add one."""
        self._hashes.append(value)
        self._numbers.append(number)

    def find(self, value: int) -> int | None:
        """The number that ``value`` was first added with, or None."""
        if self._sorted is None:
            hashes = np.frombuffer(self._hashes, dtype=np.uint64)
            order = np.argsort(hashes, kind="stable")
            self._sorted = hashes[order], np.frombuffer(self._numbers, dtype=np.uint64)[order]
        hashes, numbers = self._sorted
        place = int(np.searchsorted(hashes, np.uint64(value)))
        return int(numbers[place]) if place < len(hashes) and int(hashes[place]) == value else None
