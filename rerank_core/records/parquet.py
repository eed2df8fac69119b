"""Parquet files as records, a row group at a time."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from importlib import import_module
from itertools import accumulate
from pathlib import Path
from typing import Any

from rerank_core.errors import InputError, MissingDependencyError
from rerank_core.records.columns import column_names
from rerank_core.records.fields import Record

__all__ = ["ParquetRecords", "parquet_rows"]

_KEPT = 4
_BATCH = 1024


def parquet_rows(file: Any, name: str) -> Iterator[Record]:
    """The rows of a Parquet file in order: a path, or an object to read bytes from.

    Raises:
        MissingDependencyError: pyarrow is not installed.
        InputError: it is damaged, or two columns have one name.
    """
    opened = _opened(file, name)
    names = column_names(opened.schema_arrow.names, name)
    rows = _guarded((row for batch in opened.iter_batches(batch_size=_BATCH) for row in batch.to_pylist()), name)
    return (_record(row, names) for row in rows)


class ParquetRecords:
    """Rows of a Parquet file; the row groups read last stay in memory.

    Reading it in random order decodes a row group for nearly every row. Large files that are shuffled are better
    written as JSONL first, or with small row groups.

    Raises:
        MissingDependencyError: pyarrow is not installed.
        InputError: the file cannot be read, or has no rows.
    """

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name
        self._file: Any = None
        self._groups: OrderedDict[int, Any] = OrderedDict()
        metadata = self._opened().metadata
        self._ends = list(accumulate(metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)))
        self._names = column_names(self._opened().schema_arrow.names, name)
        if not len(self):
            raise InputError(f"{name!r} has no records; leave it out, or see why it is empty")

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_file": None, "_groups": OrderedDict()}

    def record(self, place: int) -> Record:
        group = bisect_right(self._ends, place)
        start = self._ends[group - 1] if group else 0
        if group not in self._groups:
            (self._groups[group],) = _guarded((self._opened().read_row_group(one) for one in [group]), self.name)
            if len(self._groups) > _KEPT:
                self._groups.popitem(last=False)
        self._groups.move_to_end(group)
        taken = self._groups[group].slice(place - start, 1)
        (record,) = _guarded((row for one in [taken] for row in one.to_pylist()), self.name)
        return _record(record, self._names)

    def line(self, place: int) -> int:
        return place + 1

    def mentions(self, *keys: str) -> bool:
        return not set(self._names).isdisjoint(keys)

    def raw(self) -> Iterator[tuple[int, bytes | None]]:
        return ((place, None) for place in range(len(self)))

    def _opened(self) -> Any:
        if self._file is None:
            self._file = _opened(self.path, self.name)
        return self._file


def _record(record: dict[str, object], names: tuple[str, ...]) -> Record:
    return record if all(names) else {key: value for key, value in record.items() if key in names}


def _opened(file: Any, name: str) -> Any:
    try:
        parquet = import_module("pyarrow.parquet")
    except ImportError as error:
        raise MissingDependencyError(f"{name!r} needs pyarrow: pip install 'rerank-core[parquet]'") from error
    return next(_guarded((parquet.ParquetFile(one) for one in [file]), name))


def _guarded(items: Iterator[Any], name: str) -> Iterator[Any]:
    arrow = import_module("pyarrow")
    try:
        yield from items
    except UnicodeDecodeError as error:
        raise InputError(
            f"{name!r} holds a text that is not UTF-8 ({error}); write it again from its source"
        ) from error
    except (OSError, arrow.ArrowException) as error:
        said = " ".join(str(error).split())
        raise InputError(f"{name!r} cannot be read as Parquet: {said}; copy or download it again") from error
