"""Reads Parquet files as records, one row group at a time."""

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

# Row groups that stay in memory.
_CACHED_GROUPS = 4
# Rows that are decoded at a time.
_BATCH_ROWS = 1024


def parquet_rows(file: Any, name: str) -> Iterator[Record]:
    """The rows of a Parquet file, in order.

    Args:
        file: a path, or a seekable binary file.
        name: name of the file in messages.

    Raises:
        MissingDependencyError: pyarrow is not installed.
        InputError: the file is damaged, or two columns have the same name.
    """
    parquet = _open(file, name)
    names = column_names(parquet.schema_arrow.names, name)
    rows = _as_input_errors(
        (row for batch in parquet.iter_batches(batch_size=_BATCH_ROWS) for row in batch.to_pylist()), name
    )
    return (_record(row, names) for row in rows)


class ParquetRecords:
    """Random access to the rows of a Parquet file; the 4 row groups that were read last stay in memory.

    Reading rows in random order decodes a row group for nearly every row. Write a large file that is read shuffled as
    JSONL first, or with small row groups.

    Raises:
        MissingDependencyError: pyarrow is not installed.
        InputError: the file cannot be read, or has no rows.
    """

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name
        self._file: Any = None
        self._groups: OrderedDict[int, Any] = OrderedDict()
        metadata = self._parquet_file().metadata
        self._ends = list(accumulate(metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)))
        self._names = column_names(self._parquet_file().schema_arrow.names, name)
        if not len(self):
            raise InputError(f"{name!r} has no records; leave it out, or check the program that wrote it")

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_file": None, "_groups": OrderedDict()}

    def record(self, position: int) -> Record:
        """The record at a 0-based position."""
        group = bisect_right(self._ends, position)
        start = self._ends[group - 1] if group else 0
        if group not in self._groups:
            (self._groups[group],) = _as_input_errors(
                (self._parquet_file().read_row_group(one) for one in [group]), self.name
            )
            if len(self._groups) > _CACHED_GROUPS:
                self._groups.popitem(last=False)
        self._groups.move_to_end(group)
        selected = self._groups[group].slice(position - start, 1)
        (record,) = _as_input_errors((row for one in [selected] for row in one.to_pylist()), self.name)
        return _record(record, self._names)

    def line(self, position: int) -> int:
        """The number of a row in messages, from 1."""
        return position + 1

    def mentions(self, *keys: str) -> bool:
        """Whether the file has a column of one of these names."""
        return not set(self._names).isdisjoint(keys)

    def raw(self) -> Iterator[tuple[int, bytes | None]]:
        """Each position with None, because Parquet has no bytes per row that could be compared."""
        return ((position, None) for position in range(len(self)))

    def _parquet_file(self) -> Any:
        if self._file is None:
            self._file = _open(self.path, self.name)
        return self._file


def _record(record: dict[str, object], names: tuple[str, ...]) -> Record:
    return record if all(names) else {key: value for key, value in record.items() if key in names}


def _open(file: Any, name: str) -> Any:
    try:
        parquet = import_module("pyarrow.parquet")
    except ImportError as error:
        raise MissingDependencyError(f"{name!r} needs pyarrow: pip install 'rerank-core[parquet]'") from error
    return next(_as_input_errors((parquet.ParquetFile(one) for one in [file]), name))


def _as_input_errors(items: Iterator[Any], name: str) -> Iterator[Any]:
    """Yield the items, and raise read errors of pyarrow as InputErrors with the name of the file."""
    arrow = import_module("pyarrow")
    try:
        yield from items
    except UnicodeDecodeError as error:
        raise InputError(
            f"{name!r} has a text that is not UTF-8 ({error}); write the file again from its source"
        ) from error
    except (OSError, arrow.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{name!r} cannot be read as Parquet: {reason}; copy or download it again") from error
