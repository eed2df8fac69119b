"""Parquet files as records, a row group at a time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from rerank_core.errors import InputError, MissingDependencyError
from rerank_core.records.fields import Record
from rerank_trainers.files import Step

__all__ = ["ParquetRecords"]

_KEPT = 4


class ParquetRecords:
    """Rows of a Parquet file; the row groups read last stay in memory.

    Reading it in random order decodes a row group for nearly every row. Large files that are shuffled are better
    written as JSONL first, or with small row groups.

    Raises:
        MissingDependencyError: pyarrow is not installed.
        InputError: the file cannot be read, or has no rows.
    """

    def __init__(self, path: Path, name: str, step: Step) -> None:
        self.path, self.name = path, name
        self._file: Any = None
        self._groups: OrderedDict[int, Any] = OrderedDict()
        metadata = self._opened().metadata
        sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        self._ends = np.cumsum(np.array(sizes, dtype=np.int64))
        self._keys = frozenset(self._opened().schema_arrow.names)
        if not len(self):
            raise InputError(f"{name!r} has no records; leave it out, or see why it is empty")
        step(path.stat().st_size)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_file": None, "_groups": OrderedDict()}

    def record(self, place: int) -> Record:
        group = int(np.searchsorted(self._ends, place, side="right"))
        start = int(self._ends[group - 1]) if group else 0
        if group not in self._groups:
            self._groups[group] = self._opened().read_row_group(group)
            if len(self._groups) > _KEPT:
                self._groups.popitem(last=False)
        self._groups.move_to_end(group)
        (record,) = self._groups[group].slice(place - start, 1).to_pylist()
        return dict(record)

    def line(self, place: int) -> int:
        return place + 1

    def mentions(self, *keys: str) -> bool:
        return not self._keys.isdisjoint(keys)

    def raw(self) -> Iterator[tuple[int, bytes | None]]:
        return ((place, None) for place in range(len(self)))

    def _opened(self) -> Any:
        if self._file is None:
            try:
                arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
            except ImportError as error:
                raise MissingDependencyError(
                    f"{self.name!r} needs pyarrow: pip install 'rerank-trainers[parquet]'"
                ) from error
            try:
                self._file = parquet.ParquetFile(self.path)
            except (OSError, arrow.ArrowInvalid) as error:
                raise InputError(f"{self.name!r} cannot be read as Parquet: {error}") from error
        return self._file
