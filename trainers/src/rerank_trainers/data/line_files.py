"""Files with one record per line: line offsets are held in memory, texts are read from disk."""

from __future__ import annotations

import mmap
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from rerank_core.errors import InputError
from rerank_core.records.fields import Record, RowError
from rerank_core.records.record_files import FileReader
from rerank_trainers.data.spool import Spool

__all__ = ["LineFile", "RecordFile", "Step"]

# Called with the number of bytes read since the last call.
Step: TypeAlias = Callable[[int], None]

_PROGRESS_BYTES = 1 << 20
_BOM = b"\xef\xbb\xbf"


class RecordFile(Protocol):
    """A file as a sequence of records. It can be pickled; a worker process opens the file again at its first read."""

    @property
    def path(self) -> Path: ...

    @property
    def name(self) -> str:
        """The name of the file in reports, row sources and row ids."""
        ...

    def __len__(self) -> int: ...

    def record(self, number: int) -> Record:
        """A record by its number, from 0.

        Raises:
            RowError: the record cannot be decoded.
        """
        ...

    def line(self, number: int) -> int:
        """The line number of a record, from 1; in Parquet its row, in a JSON array the number of its item."""
        ...

    def mentions(self, *keys: str) -> bool:
        """Whether a record may have one of ``keys``; True may be wrong, False is certain."""
        ...

    def raw(self) -> Iterator[tuple[int, bytes | None]]:
        """``(number, bytes of the record)`` for all records in order; None where the bytes do not contain the keys."""
        ...


class LineFile:
    """A JSON Lines or TSV file read in number, or another file through a `Spool` of plain lines.

    Blank lines are not records, but count in line numbers; a UTF-8 byte order mark is skipped.

    Raises:
        InputError: the file cannot be read, or has no records.
    """

    def __init__(self, reading: FileReader, step: Step) -> None:
        self.path, self.name, self._reading = reading.path, reading.name, reading
        self._spool = None if reading.plain else Spool(reading)
        self._map: mmap.mmap | None = None
        self._mapped = reading.path if self._spool is None else self._spool.path
        self._stamp = _stamp(self._mapped)
        if self._spool is None:
            offsets, lines = _line_offsets(self.path, self.name, step)
            if reading.columns is not None and reading.columns.names:
                offsets, lines = offsets[1:], lines[1:]
        else:
            offsets, lines = self._spool.offsets, self._spool.lines
            step(self.path.stat().st_size)
        self._offsets: npt.NDArray[np.uint64] = np.frombuffer(offsets, dtype=np.uint64)
        self._lines: npt.NDArray[np.uint32] = np.frombuffer(lines, dtype=np.uint32)
        if not len(self):
            raise InputError(f"{self.name!r} has no records; leave it out, or check why it is empty")

    def __len__(self) -> int:
        return len(self._offsets)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_map": None}

    def record(self, number: int) -> Record:
        data = self._bytes(number)
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise self._error(
                f"byte {error.start} of the line, {data[error.start]:#04x}, is not UTF-8; if the whole file has "
                "another encoding, set it with --encoding",
                "not-utf-8",
                number,
            ) from error
        try:
            return self._reading.record(text)
        except RowError as error:
            raise error.at(self.name, self.line(number)) from error

    def line(self, number: int) -> int:
        return int(self._lines[number])

    def mentions(self, *keys: str) -> bool:
        columns = self._reading.columns
        if columns is not None:
            return not columns.names or any(key in columns.names for key in keys)
        return any(self._mapping().find(f'"{key}"'.encode()) >= 0 for key in keys)

    def raw(self) -> Iterator[tuple[int, bytes | None]]:
        for number in range(len(self)):
            yield number, self._bytes(number) if self._reading.columns is None else None

    def _bytes(self, number: int) -> bytes:
        mapped, start = self._mapping(), int(self._offsets[number])
        end = mapped.find(b"\n", start)
        return mapped[start : end if end >= 0 else len(mapped)]

    def _mapping(self) -> mmap.mmap:
        if self._map is None:
            if _stamp(self._mapped) != self._stamp:
                raise InputError(f"{self.name!r} has changed since it was opened; open it again")
            with self._mapped.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return self._map

    def _error(self, reason: str, kind: str, number: int) -> RowError:
        return RowError(reason, kind, self.name, self.line(number))


def _line_offsets(path: Path, name: str, step: Step) -> tuple[array[int], array[int]]:
    """The offset and the line number of each line that is not blank."""
    offsets, lines = array("Q"), array("I")
    position = reported = 0
    try:
        with path.open("rb") as file:
            for line_number, line in enumerate(file, start=1):
                start = position + (len(_BOM) if line_number == 1 and line.startswith(_BOM) else 0)
                if line[start - position :].strip():
                    offsets.append(start)
                    lines.append(line_number)
                position += len(line)
                if position - reported >= _PROGRESS_BYTES:
                    step(position - reported)
                    reported = position
    except OSError as error:
        raise InputError(f"{name!r} cannot be read: {error.strerror}") from error
    step(position - reported)
    return offsets, lines


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns
