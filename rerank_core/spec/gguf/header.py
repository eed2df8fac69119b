"""Reads the header of a GGUF file: its metadata, and the type, shape and place of each tensor. No tensor is read.

The layout is that of ggml's ``docs/gguf.md``, versions 2 and 3. A header is untrusted: each length, count and
offset is compared with the size of the file before anything is allocated for it.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from rerank_core.errors import CheckpointError, short
from rerank_core.spec.untrusted_files import JsonObject, reading, regular_file

__all__ = ["GgufHeader", "TensorInfo", "read_header"]

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
# Type numbers of metadata values: `struct` formats of the numbers; then true or false, text, and list.
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 10: "Q", 11: "q", 12: "d"}
_BOOL, _TEXT, _LIST = 7, 8, 9
# Type numbers of tensors, each with its name in ggml, the weights of a block, and the bytes of a block.
_TYPES = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50), 20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136), 29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2),
}  # fmt: skip
# More than any known model has: metadata values, tensors, entries of a list (Gemma has 514,906 merges), and bytes of a
# text or of a name.
_MOST_VALUES, _MOST_TENSORS, _MOST_ENTRIES, _LONGEST_TEXT, _LONGEST_NAME = 4096, 65_536, 4_000_000, 16_000_000, 1024
_LARGEST_ALIGNMENT = 1 << 20


@dataclass(frozen=True)
class TensorInfo:
    """Where a tensor is in its file.

    Attributes:
        type: ggml's name, such as ``Q4_K``; ``number``: ggml's number of it.
        shape: rows first, as torch orders them; ggml orders them the other way.
        offset: bytes from the beginning of the file.
        row_bytes: bytes of a row, which is its last dimension.
    """

    type: str
    number: int
    shape: tuple[int, ...]
    offset: int
    row_bytes: int

    @property
    def rows(self) -> int:
        return math.prod(self.shape[:-1])


@dataclass(frozen=True)
class GgufHeader:
    """What a GGUF file says about itself.

    Attributes:
        metadata: the values by key; errors about them name the file.
        tensors: by llama.cpp's names.
    """

    file: Path
    metadata: JsonObject
    tensors: dict[str, TensorInfo]

    @property
    def architecture(self) -> str:
        """llama.cpp's name of the architecture, such as ``qwen3``."""
        return self.metadata.of("general.architecture", str, "")


def read_header(file: Path) -> GgufHeader:
    """The header of a GGUF file.

    Raises:
        CheckpointError: no GGUF file; one of an unknown version, big-endian, split, truncated or altered; or a tensor
            of an unknown type.
    """
    size = regular_file(file).stat().st_size
    with reading(file, "cannot be read"), file.open("rb", buffering=1 << 20) as stream:
        return _Header(stream, size, file).read()


class _Header:
    """Reads a header from its beginning to its end."""

    def __init__(self, stream: BinaryIO, size: int, file: Path) -> None:
        self._stream, self._file = stream, file
        self._left = size
        self._size = size

    def read(self) -> GgufHeader:
        if self._left < 24 or self._take(4, "the first bytes") != _MAGIC:
            raise self._wrong("it is not a GGUF file, or it is truncated")
        version = self._number("I")
        if version not in _VERSIONS:
            if version and version % 65_536 == 0:
                raise self._wrong("it is a big-endian GGUF file; give one for little-endian machines")
            raise self._wrong(f"its GGUF version is {version!r}; versions {_VERSIONS[0]} and {_VERSIONS[1]} are read")
        tensors, values = self._count("tensors", 25, _MOST_TENSORS), self._count("metadata values", 13, _MOST_VALUES)
        metadata = JsonObject({}, self._file)
        for _ in range(values):
            key = self._text("a key", _LONGEST_NAME)
            if key in metadata:
                raise self._wrong(f"the key {short(key)} occurs twice")
            metadata[key] = self._value(key, self._number("I"))
        if metadata.of("split.count", int, 1) > 1:
            raise metadata.wrong("split.count", "split files are not read; join the parts with `llama-gguf-split`")
        return GgufHeader(self._file, metadata, self._tensors(tensors, metadata))

    def _tensors(self, count: int, metadata: JsonObject) -> dict[str, TensorInfo]:
        alignment = metadata.of("general.alignment", int, 32)
        if not 0 < alignment <= _LARGEST_ALIGNMENT or alignment & (alignment - 1):
            raise metadata.wrong("general.alignment", f"it must be a power of 2, at most {_LARGEST_ALIGNMENT}")
        listed: dict[str, tuple[int, tuple[int, ...], int]] = {}
        for _ in range(count):
            name = self._text("a tensor's name", _LONGEST_NAME)
            if name in listed:
                raise self._wrong(f"the tensor {short(name)} occurs twice")
            dimensions = self._number("I")
            if not 1 <= dimensions <= 4:
                raise self._wrong(f"{name!r} has {dimensions} dimensions; tensors have 1 to 4")
            sides = struct.unpack(f"<{dimensions}Q", self._take(8 * dimensions, f"the shape of {name!r}"))
            listed[name] = self._number("I"), sides[::-1], self._number("Q")
        end = self._size - self._left
        start = end + -end % alignment
        return {name: self._placed(name, start, alignment, *info) for name, info in listed.items()}

    def _placed(
        self, name: str, start: int, alignment: int, number: int, shape: tuple[int, ...], offset: int
    ) -> TensorInfo:
        if number not in _TYPES:
            known = ", ".join(kind for kind, _, _ in _TYPES.values())
            raise self._wrong(f"{name!r} has the tensor type {number!r}, which is not read; these are: {known}")
        kind, weights, block = _TYPES[number]
        if not all(shape):
            raise self._wrong(f"{name!r} has the shape {list(shape)}; no side of a tensor is 0")
        if shape[-1] % weights:
            raise self._wrong(f"{name!r} has rows of {shape[-1]} weights, and {kind} has blocks of {weights}")
        row_bytes = shape[-1] // weights * block
        if offset % alignment or start + offset + math.prod(shape[:-1]) * row_bytes > self._size:
            raise self._wrong(
                f"{name!r} of shape {list(shape)} lies outside of the file, which has {self._size} bytes; it is "
                "truncated or altered: download it again"
            )
        return TensorInfo(kind, number, shape, start + offset, row_bytes)

    # ------------------------------------------------------------------ values
    def _value(self, key: str, number: int) -> Any:
        if number in _NUMBERS:
            return _rounded(_NUMBERS[number], self._number(_NUMBERS[number]))
        if number == _BOOL:
            return self._take(1, key) != b"\0"
        if number == _TEXT:
            return self._text(key, _LONGEST_TEXT)
        if number == _LIST:
            return self._list(key, self._number("I"))
        raise self._wrong(f"{short(key)} has the value type {number!r}, which GGUF does not have")

    def _list(self, key: str, number: int) -> list[Any]:
        if number in _NUMBERS:
            form = _NUMBERS[number]
            count = self._count(f"entries of {short(key)}", struct.calcsize(form), _MOST_ENTRIES)
            data = self._take(count * struct.calcsize(form), key)
            return list(struct.unpack(f"<{count}{form}", data))
        if number == _BOOL:
            return [value != 0 for value in self._take(self._count(f"entries of {short(key)}", 1, _MOST_ENTRIES), key)]
        if number != _TEXT:
            raise self._wrong(f"{short(key)} is a list of the value type {number!r}, which is not read")
        count = self._count(f"entries of {short(key)}", 8, _MOST_ENTRIES)
        return self._texts(key, count)

    def _texts(self, key: str, count: int) -> list[str]:
        """A list of texts. A vocabulary has up to 262,144, so this reads them without a call for each."""
        read, left, raw = self._stream.read, self._left, []
        for _ in range(count):
            length = int.from_bytes(read(8), "little") if left >= 8 else left
            left -= 8 + length
            if left < 0 or length > _LONGEST_TEXT:
                raise self._wrong(f"it ends inside {short(key)}, or a text of that list is too long; download it again")
            raw.append(read(length))
        self._left = left
        try:
            return [text.decode("utf-8") for text in raw]
        except UnicodeDecodeError as error:
            raise self._wrong(f"{short(key)} holds bytes that are no UTF-8 text: {error.reason}") from error

    def _text(self, what: str, longest: int) -> str:
        length = self._number("Q")
        if length > longest:
            raise self._wrong(f"{short(what)} has {length} bytes, and {longest} are the most")
        try:
            return self._take(length, what).decode("utf-8")
        except UnicodeDecodeError as error:
            raise self._wrong(f"{short(what)} is no UTF-8 text: {error.reason}") from error

    def _count(self, what: str, smallest: int, most: int) -> int:
        """A number of things, each of at least ``smallest`` bytes."""
        count = int(self._number("Q"))
        if count > most or count * smallest > self._left:
            raise self._wrong(
                f"it claims {count} {what}, more than {most} or than the rest of the file can hold; it is truncated or "
                "altered"
            )
        return count

    def _number(self, form: str) -> Any:
        (value,) = struct.unpack(f"<{form}", self._take(struct.calcsize(f"<{form}"), "a number"))
        return value

    def _take(self, count: int, what: str) -> bytes:
        if count > self._left:
            raise self._wrong(f"it ends inside {short(what)}; it is truncated or altered: download it again")
        data = self._stream.read(count)
        if len(data) != count:
            raise self._wrong(f"it ends inside {short(what)}: it is truncated: download it again")
        self._left -= count
        return data

    def _wrong(self, flaw: str) -> CheckpointError:
        return CheckpointError(f"{self._file} cannot be read: {flaw}")


def _rounded(form: str, value: Any) -> Any:
    """A float32 as the shortest decimal number that it stands for: 1e-06 rather than 9.999999974752427e-07."""
    return float(f"{value:.7g}") if form == "f" else value
