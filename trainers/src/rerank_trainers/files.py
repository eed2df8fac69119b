"""Files of one record a line: where each begins is kept, the texts stay on disk."""

from __future__ import annotations

import glob
import json
import mmap
import os
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from rerank_core.errors import InputError, short
from rerank_core.records.columns import Columns
from rerank_core.records.fields import Record, RowError

__all__ = ["LineFile", "RecordFile", "Step", "expand", "names_of"]

# Called with the bytes read since the last call.
Step: TypeAlias = Callable[[int], None]

_STEP = 1 << 20
_BOM = b"\xef\xbb\xbf"
_LINES = {".jsonl", ".ndjson", ".json", ".tsv"}


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
        """Its line in the file, from 1; for Parquet, its row."""
        ...

    def mentions(self, *keys: str) -> bool:
        """Whether some record may have one of ``keys``; a yes may be wrong, a no may not."""
        ...

    def raw(self) -> Iterator[tuple[int, bytes | None]]:
        """``(place, the bytes of the record)`` of all, in order; None for bytes that nobody can search for keys."""
        ...


class LineFile:
    """JSONL or TSV. Blank lines are no records, and count in line numbers; a UTF-8 byte order mark is skipped.

    Raises:
        InputError: a file that cannot be read, or has no records.
    """

    def __init__(self, path: Path, name: str, step: Step) -> None:
        self.path, self.name = path, name
        offsets, lines = array("Q"), array("I")
        position = reported = 0
        try:
            self._stamp = _stamp(path)
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
        self._offsets: npt.NDArray[np.uint64] = np.frombuffer(offsets, dtype=np.uint64)
        self._lines: npt.NDArray[np.uint32] = np.frombuffer(lines, dtype=np.uint32)
        self._map: mmap.mmap | None = None
        self._columns = Columns.of(self._bytes(0)) if offsets and path.suffix.lower() == ".tsv" else None
        if self._columns is not None and self._columns.named:
            self._offsets, self._lines = self._offsets[1:], self._lines[1:]
        if not len(self):
            raise InputError(f"{name!r} has no records; leave it out, or see why it is empty")

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
                f"byte {error.start} of the line, {data[error.start]:#04x}, is not UTF-8", "not-utf-8", place
            ) from error
        try:
            return _object(text) if self._columns is None else self._columns.record(text)
        except RowError as error:
            raise error.at(self.name, self.line(place)) from error

    def line(self, place: int) -> int:
        return int(self._lines[place])

    def mentions(self, *keys: str) -> bool:
        if self._columns is not None:
            return not self._columns.named or any(key in self._columns.names for key in keys)
        return any(self._opened().find(f'"{key}"'.encode()) >= 0 for key in keys)

    def raw(self) -> Iterator[tuple[int, bytes | None]]:
        for place in range(len(self)):
            yield place, self._bytes(place) if self._columns is None else None

    def _bytes(self, place: int) -> bytes:
        mapped, start = self._opened(), int(self._offsets[place])
        end = mapped.find(b"\n", start)
        return mapped[start : end if end >= 0 else len(mapped)]

    def _opened(self) -> mmap.mmap:
        if self._map is None:
            if _stamp(self.path) != self._stamp:
                raise InputError(f"{self.name!r} has changed since it was opened; open it again")
            with self.path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return self._map

    def _error(self, reason: str, kind: str, place: int) -> RowError:
        return RowError(reason, kind, self.name, self.line(place))


def _object(line: str) -> Record:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RowError(f"no JSON: {error}", "broken-json") from error
    if not isinstance(value, dict):
        hint = "; a file has one object a line, not one array" if isinstance(value, list) else ""
        raise RowError(f"{short(value)} is no JSON object{hint}", "not-an-object")
    return value


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def expand(paths: Sequence[str | Path]) -> list[Path]:
    """The files that ``paths`` name, patterns such as ``kd/*.jsonl`` and ``**`` among them; matches are sorted.

    Raises:
        InputError: a bare string, no path, a file that is not there or is named twice, a pattern without a match, or a
            suffix that is no format's.
    """
    if isinstance(paths, (str, Path)):
        raise InputError(f"paths is {str(paths)!r}; it must be a list of paths")
    found: list[Path] = []
    for given in paths:
        path = Path(given)
        if glob.has_magic(str(given)) and not path.exists():
            matches = [Path(match) for match in sorted(glob.glob(str(given), recursive=True)) if os.path.isfile(match)]
            if not matches:
                raise InputError(f"no file matches {str(given)!r}")
            found.extend(matches)
        elif path.is_file():
            found.append(path)
        else:
            what = "is a folder; name its files, such as FOLDER/*.jsonl" if path.is_dir() else "is not there"
            raise InputError(f"{str(given)!r} {what}")
    if not found:
        raise InputError("no files are named")
    seen: set[Path] = set()
    for path in found:
        if path.suffix.lower() not in _LINES | {".parquet"}:
            hint = "; unpack it first" if path.suffix == ".gz" else ""
            raise InputError(f"{path.name!r} is none of .jsonl, .ndjson, .json (a record a line), .tsv, .parquet{hint}")
        if path.resolve() in seen:
            raise InputError(f"{str(path)!r} is named twice; to train on it more often, set train.epochs")
        seen.add(path.resolve())
    return found


def names_of(paths: Sequence[Path]) -> list[str]:
    """A short name for each file: its own, and as many folders before it as tell it from the others.

    >>> names_of([Path("/x/a/train.jsonl"), Path("/x/b/train.jsonl"), Path("/x/dev.jsonl")])
    ['a/train.jsonl', 'b/train.jsonl', 'dev.jsonl']
    """
    parts = [path.absolute().parts for path in paths]
    names: list[str] = []
    for own in parts:
        length = 1
        while sum(other[-length:] == own[-length:] for other in parts) > 1 and length < len(own):
            length += 1
        names.append("/".join(own[-length:]))
    return names
