"""Opens a file, stdin or a pipe as a stream of bytes: decompresses it, and rejects known binary formats."""

from __future__ import annotations

import io
import os
import re
import stat
import sys
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from rerank_core.errors import InputError, MissingDependencyError, short

__all__ = ["COMPRESSION_SUFFIXES", "HEAD_SIZE", "PARQUET_MAGIC", "Source", "open_source"]

# Bytes at the start of a stream that are inspected to detect what it holds.
HEAD_SIZE = 1 << 16
PARQUET_MAGIC = b"PAR1"

_COMPRESSION_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
}
# A skippable frame of zstd; files written by pzstd begin with one.
_ZSTD_SKIPPABLE_FRAME = re.compile(rb"[\x50-\x5f]\x2a\x4d\x18")
COMPRESSION_SUFFIXES = {".gz": "gzip", ".zst": "zstd", ".zstd": "zstd", ".bz2": "bzip2", ".xz": "xz"}

# Formats that are often passed instead of text: first bytes, name, and advice for the error message.
_NOT_TEXT = (
    (b"PK\x03\x04", "a zip archive", "unpack it and name the files that come out"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Excel workbook or another Office document", "save it as CSV UTF-8"),
    (b"%PDF-", "a PDF", "extract its text first"),
    (b"ARROW1", "an Arrow file", "write it as Parquet: datasets.Dataset.from_file(FILE).to_parquet(...)"),
    (b"\xff\xff\xff\xff", "an Arrow stream", "write it as Parquet: datasets.Dataset.from_file(FILE).to_parquet(...)"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it and name the files that come out"),
    (b"Rar!\x1a\x07", "a RAR archive", "unpack it and name the files that come out"),
    (b"SQLite format 3\x00", "an SQLite database", "export the table as CSV"),
    (b"\x80\x02", "a pickle", "write it as JSON Lines or Parquet"),
    (b"\x80\x03", "a pickle", "write it as JSON Lines or Parquet"),
    (b"\x80\x04\x95", "a pickle", "write it as JSON Lines or Parquet"),
    (b"\x80\x05\x95", "a pickle", "write it as JSON Lines or Parquet"),
    (b"\x93NUMPY", "a NumPy array", "write it as JSON Lines or Parquet"),
    (b"Obj\x01", "an Avro file", "write it as JSON Lines or Parquet"),
    (b"ORC", "an ORC file", "write it as Parquet"),
    (b"\x04\x22\x4d\x18", "compressed by lz4", "unpack it first: lz4 -d FILE"),
    (b"\x1f\x9d", "compressed by compress", "unpack it first: gzip -d FILE"),
    (b"\xff\x06\x00\x00sNaPpY", "compressed by Snappy", "unpack it first"),
    (b"LZIP\x01", "compressed by lzip", "unpack it first: lzip -d FILE"),
)
_OFFICE_MARKERS = (b"xl/", b"[Content_Types].xml")
_TAR_MAGIC = slice(257, 262)


@dataclass(frozen=True)
class Source:
    """An open input.

    Attributes:
        name: its name in messages.
        stream: its bytes, decompressed; reading damaged data raises an InputError.
        head: the first bytes, at most `HEAD_SIZE`; ``stream`` returns them again.
        compression: gzip, zstd, bzip2 or xz; None if it is not compressed.
    """

    name: str
    stream: IO[bytes]
    head: bytes
    compression: str | None


@contextmanager
def open_source(path: str | os.PathLike[str], name: str) -> Iterator[Source]:
    """Open a file or pipe by its path, or stdin for ``-``.

    Compression is detected from the first bytes, not from the name.

    Raises:
        InputError: the path does not exist, is a directory or a device, or holds a binary format such as an archive or
            a workbook.
        MissingDependencyError: the file is compressed with zstd, and pyarrow is not installed.
    """
    if str(path) == "-":
        # The caller's stdin stays open.
        yield _source(sys.stdin.buffer, name)
        return
    with ExitStack() as stack:
        yield _source(_file(path, stack), name)


def _file(path: str | os.PathLike[str], stack: ExitStack) -> IO[bytes]:
    try:
        mode = os.stat(path).st_mode
        # Checked before opening, because opening or reading a device may block forever.
        _check_kind(mode, str(path))
        return stack.enter_context(Path(path).open("rb"))
    except InputError:
        raise
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InputError(f"{short(str(path))} cannot be read: {reason}") from error


def _check_kind(mode: int, path: str) -> None:
    if stat.S_ISDIR(mode):
        example = path.rstrip("/") + "/*.jsonl"
        raise InputError(f"{path!r} is a directory; name its files, for example {example}")
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) or stat.S_ISSOCK(mode):
        raise InputError(f"{path!r} is a device or socket, not a file; pipe its text in and name it '-'")


def _source(file: IO[bytes], name: str) -> Source:
    raw = _CheckedStream(file, name, None)
    compression = next((kind for magic, kind in _COMPRESSION_MAGIC.items() if raw.head.startswith(magic)), None)
    if _ZSTD_SKIPPABLE_FRAME.match(raw.head):
        compression = "zstd"
    if compression is not None:
        raw = _CheckedStream(_decompressed(io.BufferedReader(raw), compression, name), name, compression)
    _refuse_binary(raw.head, name, compression)
    return Source(name, io.BufferedReader(raw, 1 << 18), raw.head, compression)


def _refuse_binary(head: bytes, name: str, compression: str | None) -> None:
    kind = advice = None
    for magic, name_of_kind, remedy in _NOT_TEXT:
        if head.startswith(magic):
            kind, advice = name_of_kind, remedy
    if head.startswith(b"PK\x03\x04") and any(mark in head[:4096] for mark in _OFFICE_MARKERS):
        kind, advice = "an Excel workbook or another Office document", "save it as CSV UTF-8"
    if head[_TAR_MAGIC] == b"ustar":
        kind, advice = "a tar archive", "unpack it (tar -xf FILE) and name the files that come out"
    if compression is not None and any(head.startswith(magic) for magic in _COMPRESSION_MAGIC):
        kind, advice = "compressed twice", "unpack it once"
    if kind is not None:
        raise InputError(f"{name!r} is {kind}, which cannot be read as text; {advice}")


def _decompressed(file: IO[bytes], compression: str, name: str) -> Any:
    if compression == "zstd":
        try:
            arrow = import_module("pyarrow")
        except ImportError as error:
            raise MissingDependencyError(
                f"{name!r} is compressed by zstd, which needs pyarrow: pip install 'rerank-core[parquet]'; or unpack "
                "it first: zstd -d FILE"
            ) from error
        return arrow.CompressedInputStream(arrow.PythonFile(file, mode="r"), "zstd")
    modules = {"gzip": ("gzip", "GzipFile"), "bzip2": ("bz2", "BZ2File"), "xz": ("lzma", "LZMAFile")}
    module, kind = modules[compression]
    opener = getattr(import_module(module), kind)
    return opener(fileobj=file) if compression == "gzip" else opener(file)


class _CheckedStream(io.RawIOBase):
    """A stream that keeps its first bytes in ``head`` and raises read failures as InputErrors with its name."""

    def __init__(self, file: Any, name: str, compression: str | None) -> None:
        self._file, self._name, self._compression, self._bytes_read = file, name, compression, 0
        pieces, size = [], 0
        # A read from a pipe may return as little as one byte.
        while size < HEAD_SIZE and (piece := self._read(HEAD_SIZE - size)):
            pieces.append(piece)
            size += len(piece)
        self.head = b"".join(pieces)
        self._unread_head = memoryview(self.head)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = len(buffer)
        if len(self._unread_head):
            piece: Any = self._unread_head[:size]
            self._unread_head = self._unread_head[size:]
        else:
            piece = self._read(size)
        buffer[: len(piece)] = piece
        return len(piece)

    def _read(self, size: int) -> bytes:
        try:
            data: bytes = self._file.read(size)
        except InputError:
            raise
        except (OSError, EOFError, zlib.error, ValueError) as error:
            raise self._failure(error) from error
        except Exception as error:
            # Compared by name, because some builds of Python lack lzma, so that the class cannot be imported here.
            if type(error).__name__ != "LZMAError":
                raise
            raise self._failure(error) from error
        self._bytes_read += len(data)
        return data

    def _failure(self, error: Exception) -> InputError:
        if self._compression is None:
            return InputError(f"{self._name!r} cannot be read: {getattr(error, 'strerror', None) or error}")
        return InputError(
            f"{self._name!r} is damaged or cut off: {self._compression} fails after {self._bytes_read:,} unpacked "
            f"bytes ({error}); copy or download it again"
        )
