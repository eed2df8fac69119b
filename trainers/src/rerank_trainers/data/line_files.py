"""Files of one record a line: where each begins is kept, the texts stay on disk."""

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

# Called with the bytes read since the last call.
Step: TypeAlias = Callable[[int], None]

_STEP = 1 << 20
_BOM = b"\xef\xbb\xbf"


class RecordFile(Protocol):
    """A file as a sequence of records, picklable: a worker opens it again when it first reads."""

    @property
    def path(self) -> Path: ...

    @property
    def name(self) -> str:
        """How reports, sources and ids call it."""
        ...

    def __len__(self) -> int: ...

    def record(self, place: int) -> Record:
        """One record.

        Raises:
            RowError: it cannot be decoded.
        """
        ...

    def line(self, place: int) -> int:
        """Its line in the file, from 1; for Parquet its row, and for an array the number of its item."""
        ...

    def mentions(self, *keys: str) -> bool:
        """Whether some record may have one of ``keys``; a yes may be wrong, a no may not."""
        ...

    def raw(self) -> Iterator[tuple[int, bytes | None]]:
        """``(place, the bytes of the record)`` of all, in order; None for bytes that nobody can search for keys."""
        ...


class LineFile:
    """JSONL or TSV, where it lies; anything else as the plain lines of a `Spool`.

    Blank lines are no records, and count in line numbers; a UTF-8 byte order mark is skipped.

    Raises:
        InputError: a file that cannot be read, or has no records.
    """

    def __init__(self, reading: FileReader, step: Step) -> None:
        self.path, self.name, self._reading = reading.path, reading.name, reading
        self._spool = None if reading.plain else Spool(reading)
        self._map: mmap.mmap | None = None
        self._mapped = reading.path if self._spool is None else self._spool.path
        self._stamp = _stamp(self._mapped)
        if self._spool is None:
            offsets, lines = _places(self.path, self.name, step)
            if reading.columns is not None and reading.columns.names:
                offsets, lines = offsets[1:], lines[1:]
        else:
            offsets, lines = self._spool.offsets, self._spool.lines
            step(self.path.stat().st_size)
        self._offsets: npt.NDArray[np.uint64] = np.frombuffer(offsets, dtype=np.uint64)
        self._lines: npt.NDArray[np.uint32] = np.frombuffer(lines, dtype=np.uint32)
        if not len(self):
            raise InputError(f"{self.name!r} has no records; leave it out, or see why it is empty")

    def __len__(self) -> int:
        return len(self._offsets)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_map": None}

    def record(self, place: int) -> Record:
        data = self._bytes(place)
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise self._error(
                f"byte {error.start} of the line, {data[error.start]:#04x}, is not UTF-8; where the whole file is of "
                "another encoding, say it with --encoding",
                "not-utf-8",
                place,
            ) from error
        try:
            return self._reading.record(text)
        except RowError as error:
            raise error.at(self.name, self.line(place)) from error

    def line(self, place: int) -> int:
        return int(self._lines[place])

    def mentions(self, *keys: str) -> bool:
        columns = self._reading.columns
        if columns is not None:
            return not columns.names or any(key in columns.names for key in keys)
        return any(self._opened().find(f'"{key}"'.encode()) >= 0 for key in keys)

    def raw(self) -> Iterator[tuple[int, bytes | None]]:
        for place in range(len(self)):
            yield place, self._bytes(place) if self._reading.columns is None else None

    def _bytes(self, place: int) -> bytes:
        mapped, start = self._opened(), int(self._offsets[place])
        end = mapped.find(b"\n", start)
        return mapped[start : end if end >= 0 else len(mapped)]

    def _opened(self) -> mmap.mmap:
        if self._map is None:
            if _stamp(self._mapped) != self._stamp:
                raise InputError(f"{self.name!r} has changed since it was opened; open it again")
            with self._mapped.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return self._map

    def _error(self, reason: str, kind: str, place: int) -> RowError:
        return RowError(reason, kind, self.name, self.line(place))


def _places(path: Path, name: str, step: Step) -> tuple[array[int], array[int]]:
    """Where each line that is not blank begins, and its number."""
    offsets, lines = array("Q"), array("I")
    position = reported = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                start = position + (len(_BOM) if number == 1 and line.startswith(_BOM) else 0)
                if line[start - position :].strip():
                    offsets.append(start)
                    lines.append(number)
                position += len(line)
                if position - reported >= _STEP:
                    step(position - reported)
                    reported = position
    except OSError as error:
        raise InputError(f"{name!r} cannot be read: {error.strerror}") from error
    step(position - reported)
    return offsets, lines


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns
