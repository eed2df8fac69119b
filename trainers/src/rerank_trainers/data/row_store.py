"""`RowStore`: training rows of several files as one sequence, read from disk on access."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import TypeAlias, overload

import numpy as np
import numpy.typing as npt

from rerank_core.progress import Progress
from rerank_core.records.fields import Record, RowError
from rerank_core.records.parquet import ParquetRecords
from rerank_core.records.paths import expand_paths, short_names
from rerank_core.records.record_files import FileReader
from rerank_core.records.row_converters import ScoresAre, merge_rows
from rerank_core.records.row_formats import to_training_row
from rerank_core.records.training_row import TrainingRow
from rerank_trainers.data.group_lines import LineGroups, group_lines
from rerank_trainers.data.line_files import LineFile, RecordFile, Step

__all__ = ["RowStore", "open_rows"]

_CHUNK = 1 << 20
_Selection: TypeAlias = npt.NDArray[np.int64]


def open_rows(
    paths: Sequence[str | Path],
    *,
    scores_are: ScoresAre = "teacher",
    group: bool = True,
    encoding: str | None = None,
    progress: Progress | None = None,
    weights: Sequence[float] | None = None,
) -> RowStore:
    """Open the rows of JSON, CSV, TSV and Parquet files; formats (`rerank_core.records`) may be mixed.

    Args:
        paths: files and glob patterns such as ``kd/*.jsonl``.
        scores_are: what ``pos_scores`` and ``neg_scores`` are; see `row_formats.to_training_row`.
        group: combine the pointwise lines of one query in a file into one row, at the position of the first line.
        encoding: text encoding of files that are not UTF-8, if it cannot be detected.
        weights: for each of ``paths``, how often its rows are drawn in an epoch; by default once.
        progress: called with the bytes read and the total; grouping reads the files a second time.

    Raises:
        InputError: no readable file of a known suffix at a path, or a file without records. Errors in single rows are
            raised when the rows are read.
        MissingDependencyError: a Parquet file without pyarrow installed.
    """
    files_found = expand_paths(paths)
    passes = 2 if group else 1
    total, done = passes * sum(path.stat().st_size for path in files_found), 0

    def step(size: int) -> None:
        nonlocal done
        done += size
        if progress is not None:
            progress(done, total)

    files = [
        _open(path, name, encoding, step) for path, name in zip(files_found, short_names(files_found), strict=True)
    ]
    groups = [group_lines(file, scores_are, step) if group else None for file in files]
    if weights is None:
        return RowStore(files, groups, scores_are)
    named = [weight for path, weight in zip(paths, weights, strict=True) for _ in expand_paths([path])]
    return RowStore(files, groups, scores_are, weights=named)


def _open(path: Path, name: str, encoding: str | None, step: Step) -> RecordFile:
    reading = FileReader.of(path, name, encoding)
    if reading.form != "parquet":
        return LineFile(reading, step)
    records = ParquetRecords(path, name)
    step(path.stat().st_size)
    return records


class RowStore(Sequence[TrainingRow]):
    """Rows of files, read from disk on access; 12 bytes per line are held in memory.

    Files that cannot be read in place (compressed, an array, CSV, another encoding) are in a temporary file. A store
    can be pickled, for the workers of a DataLoader. A slice is a store too. Reading an unusable row raises `RowError`,
    an InputError with its kind, file and line; `checks.check.check` reports all of them beforehand.

    Attributes:
        weights: how often the rows of each file are drawn in an epoch.
    """

    def __init__(
        self,
        files: Sequence[RecordFile],
        groups: Sequence[LineGroups | None],
        scores_are: ScoresAre = "teacher",
        selection: _Selection | None = None,
        *,
        weights: Sequence[float] | None = None,
    ) -> None:
        self._files, self._groups, self._scores_are = list(files), list(groups), scores_are
        sizes = [len(file if rows is None else rows) for file, rows in zip(files, groups, strict=True)]
        self._ends = list(accumulate(sizes))
        self._selection = selection
        self.weights = tuple(weights) if weights is not None else (1.0,) * len(files)

    def __len__(self) -> int:
        return self._ends[-1] if self._selection is None else len(self._selection)

    @overload
    def __getitem__(self, index: int) -> TrainingRow: ...
    @overload
    def __getitem__(self, index: slice) -> RowStore: ...
    def __getitem__(self, index: int | slice) -> TrainingRow | RowStore:
        if isinstance(index, slice):
            return self.select(range(len(self))[index])
        return self.to_row(index, self.records(index))

    def records(self, index: int) -> list[Record]:
        """The decoded records of a row: several if pointwise lines were grouped.

        Raises:
            RowError: a record cannot be decoded.
        """
        file, numbers = self._locate(index)
        return [file.record(number) for number in numbers]

    def to_row(self, index: int, records: Sequence[Record]) -> TrainingRow:
        """The row of decoded records, as returned by `records`.

        Raises:
            RowError: the records are not a valid row.
        """
        file, numbers = self._locate(index)
        rows: list[TrainingRow] = []
        for number, record in zip(numbers, records, strict=True):
            line = file.line(number)
            try:
                rows.append(
                    to_training_row(record, scores_are=self._scores_are, source=file.name, row_id=f"{file.name}:{line}")
                )
            except RowError as error:
                raise error.at(file.name, line) from error
        return rows[0] if len(rows) == 1 else merge_rows(rows)

    def location(self, index: int, doc: int = 0) -> tuple[str, int]:
        """The file name of a row and a line number: of document ``doc`` if lines were grouped, otherwise of the row."""
        file, numbers = self._locate(index)
        return file.name, file.line(numbers[doc] if len(numbers) > 1 else numbers[0])

    @property
    def names(self) -> list[str]:
        """The names of the files."""
        return [file.name for file in self._files]

    @cached_property
    def _sources(self) -> tuple[list[str], npt.NDArray[np.int64]]:
        """The names of the sources, and the number of the source of each row."""
        numbers: dict[str, int] = {}
        found = np.zeros(len(self), dtype=np.int64)
        may_have_source = {file.name: file.mentions("source") for file in self._files}
        for index in range(len(self)):
            file, _ = self._locate(index)
            # Only files that mention a source need to be parsed.
            name = self._source(index) if may_have_source[file.name] else file.name
            found[index] = numbers.setdefault(name, len(numbers))
        return list(numbers), found

    @property
    def source_counts(self) -> dict[str, int]:
        """Number of rows by source: their ``source``, or the file name of rows that have none or cannot be read."""
        names, numbers = self._sources
        return dict(zip(names, np.bincount(numbers, minlength=len(names)).tolist(), strict=True))

    def source_numbers(self) -> npt.NDArray[np.int64]:
        """The number of the source of each row; equal for equal sources."""
        return self._sources[1]

    def file_numbers(self) -> npt.NDArray[np.int64]:
        """The number of the file of each row."""
        rows = np.arange(len(self)) if self._selection is None else self._selection
        return np.searchsorted(self._ends, rows, side="right").astype(np.int64)

    def fingerprint(self) -> str:
        """SHA-256 of the bytes of all files in order, like ``cat FILES | sha256sum``, for any selection of rows."""
        state = hashlib.sha256()
        for file in self._files:
            with file.path.open("rb") as stream:
                while chunk := stream.read(_CHUNK):
                    state.update(chunk)
        return state.hexdigest()

    def select(self, rows: Sequence[int]) -> RowStore:
        """A store of the rows with these indices, in this order."""
        chosen = np.fromiter((self._index(row) for row in rows), dtype=np.int64, count=len(rows))
        if self._selection is not None:
            chosen = self._selection[chosen]
        return RowStore(self._files, self._groups, self._scores_are, chosen, weights=self.weights)

    def drop(self, rows: Collection[int]) -> RowStore:
        """A store without the rows with these indices."""
        remaining = np.ones(len(self), dtype=np.bool_)
        remaining[[self._index(row) for row in rows]] = False
        return self.select(np.flatnonzero(remaining).tolist())

    def __iter__(self) -> Iterator[TrainingRow]:
        return (self[index] for index in range(len(self)))

    def _source(self, index: int) -> str:
        file, _ = self._locate(index)
        try:
            return self[index].source or file.name
        except RowError:
            return file.name

    def _locate(self, index: int) -> tuple[RecordFile, list[int]]:
        """The file of a row, and the numbers of its records in the file."""
        row = self._index(index)
        if self._selection is not None:
            row = int(self._selection[row])
        position = bisect_right(self._ends, row)
        row -= self._ends[position - 1] if position else 0
        rows = self._groups[position]
        return self._files[position], [row] if rows is None else rows.of(row)

    def _index(self, index: int) -> int:
        # A Sequence is iterated until IndexError.
        if not -len(self) <= index < len(self):
            raise IndexError(f"row {index!r} of {len(self)}")
        return index % len(self)
