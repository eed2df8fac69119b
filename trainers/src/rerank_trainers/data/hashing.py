"""64-bit hashes of texts, with which millions of texts are compared without holding them in memory."""

from __future__ import annotations

import hashlib
import unicodedata
from array import array

import numpy as np
import numpy.typing as npt

__all__ = ["HashIndex", "digest", "find_repeats", "normalise", "query_hash", "text_hash"]


def digest(*parts: str | None) -> int:
    """64 bits of BLAKE2b over ``parts``; their boundaries, and None as opposed to an empty text, change the hash.

    >>> digest("a", "b") == digest("ab"), digest("a", None) == digest("a", "")
    (False, False)
    """
    state = hashlib.blake2b(digest_size=8)
    for part in parts:
        # Text from a faulty source may contain lone surrogates.
        data = b"" if part is None else part.encode("utf-8", "surrogatepass")
        state.update(b"\xff" if part is None else len(data).to_bytes(8, "little"))
        state.update(data)
    return int.from_bytes(state.digest(), "little")


def text_hash(text: str) -> int:
    """The hash of a document, as a signed integer of 64 bits, which a tensor holds."""
    return _signed(digest(text))


def query_hash(query: str, instruction: str | None) -> int:
    """The hash of a query with its instruction, as a signed integer of 64 bits.

    >>> query_hash("panda", None) == query_hash("panda", "find"), query_hash("panda", None) == text_hash("panda")
    (False, False)
    """
    return _signed(digest(query, instruction))


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def normalise(text: str) -> str:
    """``text`` without differences of letter case, character width (NFKC) and white space.

    >>> normalise("  What  is ＡＢＣ ")
    'what is abc'
    """
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def find_repeats(hashes: array[int]) -> list[tuple[int, int]]:
    """``(position, first position of the same hash)`` for every repeated hash, ordered by position.

    >>> find_repeats(array("Q", [7, 5, 7, 5, 7]))
    [(2, 0), (3, 1), (4, 0)]
    """
    values = np.frombuffer(hashes, dtype=np.uint64)
    order = np.argsort(values, kind="stable")
    repeated = (
        np.concatenate([[False], values[order][1:] == values[order][:-1]]) if len(hashes) else np.zeros(0, np.bool_)
    )
    first = np.maximum.accumulate(np.where(repeated, 0, np.arange(len(hashes))))
    return sorted(zip(order[repeated].tolist(), order[first[repeated]].tolist(), strict=True))


class HashIndex:
    """Maps hashes to numbers in 16 bytes per entry, where a dict takes about 100.

    All entries must be added before the first call of `find`.
    """

    def __init__(self) -> None:
        self._hashes, self._numbers = array("Q"), array("Q")
        self._sorted: tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]] | None = None

    def add(self, value: int, number: int) -> None:
        """Add a hash with its number."""
        self._hashes.append(value)
        self._numbers.append(number)

    def find(self, value: int) -> int | None:
        """The number that ``value`` was first added with, or None."""
        if self._sorted is None:
            hashes = np.frombuffer(self._hashes, dtype=np.uint64)
            order = np.argsort(hashes, kind="stable")
            self._sorted = hashes[order], np.frombuffer(self._numbers, dtype=np.uint64)[order]
        hashes, numbers = self._sorted
        index = int(np.searchsorted(hashes, np.uint64(value)))
        return int(numbers[index]) if index < len(hashes) and int(hashes[index]) == value else None
