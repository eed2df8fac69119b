"""`RowStore`: files of training rows as one sequence, which stays on disk."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
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
) -> RowStore:
    """The rows of JSON, CSV, TSV and Parquet files, in any format that `formats` lists, mixed as they may be.

    Args:
        paths: files, and patterns such as ``kd/*.jsonl``.
        scores_are: what ``pos_scores`` and ``neg_scores`` are; see `row_formats.to_training_row`.
        group: pointwise lines of one query in one file become one row, where the first of them is.
        encoding: of files that are not UTF-8, where it cannot be told from what they hold.
        progress: called with bytes read and bytes to read; grouping reads them a second time.

    Raises:
        InputError: a path that names no readable file of a known suffix, or a file without records. What single rows
            hold is found out when they are read.
        MissingDependencyError: a Parquet file, and no pyarrow.
    """
    found = expand_paths(paths)
    passes = 2 if group else 1
    total, done = passes * sum(path.stat().st_size for path in found), 0

    def step(size: int) -> None:
        nonlocal done
        done += size
        if progress is not None:
            progress(done, total)

    files = [_open(path, name, encoding, step) for path, name in zip(found, short_names(found), strict=True)]
    return RowStore(files, [group_lines(file, scores_are, step) if group else None for file in files], scores_are)


def _open(path: Path, name: str, encoding: str | None, step: Step) -> RecordFile:
    reading = FileReader.of(path, name, encoding)
    if reading.form != "parquet":
        return LineFile(reading, step)
    records = ParquetRecords(path, name)
    step(path.stat().st_size)
    return records


class RowStore(Sequence[TrainingRow]):
    """Rows of files, read when asked for: 12 bytes a line are kept in memory, and the rest on disk, in a temporary
    file what cannot be read in place (packed, an array, CSV, another encoding).

    Picklable, for the workers of a DataLoader. A slice is a store too. Reading a row that cannot be used raises
    `RowError`, an InputError with its kind, file and line; `checking.check` finds all of them beforehand.
    """

    def __init__(
        self,
        files: Sequence[RecordFile],
        groups: Sequence[LineGroups | None],
        scores_are: ScoresAre = "teacher",
        selection: _Selection | None = None,
    ) -> None:
        self._files, self._groups, self._scores_are = list(files), list(groups), scores_are
        sizes = [len(file if rows is None else rows) for file, rows in zip(files, groups, strict=True)]
        self._ends = list(accumulate(sizes))
        self._selection = selection

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
        """The decoded objects that a row is made of: several where pointwise lines were grouped.

        Raises:
            RowError: one cannot be decoded.
        """
        file, places = self._at(index)
        return [file.record(place) for place in places]

    def to_row(self, index: int, records: Sequence[Record]) -> TrainingRow:
        """The row that `records` gave the objects of.

        Raises:
            RowError: they are no row.
        """
        file, places = self._at(index)
        rows: list[TrainingRow] = []
        for place, record in zip(places, records, strict=True):
            line = file.line(place)
            try:
                rows.append(
                    to_training_row(record, scores_are=self._scores_are, source=file.name, row_id=f"{file.name}:{line}")
                )
            except RowError as error:
                raise error.at(file.name, line) from error
        return rows[0] if len(rows) == 1 else merge_rows(rows)

    def location(self, index: int, doc: int = 0) -> tuple[str, int]:
        """The file of a row, by name, and the line of its document ``doc``: the row's, unless lines were grouped."""
        file, places = self._at(index)
        return file.name, file.line(places[doc] if len(places) > 1 else places[0])

    @property
    def names(self) -> list[str]:
        """The files, by name."""
        return [file.name for file in self._files]

    @property
    def source_counts(self) -> dict[str, int]:
        """Rows by source; those that cannot be read count for their file. Rows with a source of their own are read."""
        found: Counter[str] = Counter()
        bring = {file.name: file.mentions("source") for file in self._files}
        for index in range(len(self)):
            file, _ = self._at(index)
            found[self._source(index) if bring[file.name] else file.name] += 1
        return dict(found)

    def fingerprint(self) -> str:
        """SHA-256 over the bytes of the files, in order, whatever rows are selected: ``cat FILES | sha256sum``."""
        state = hashlib.sha256()
        for file in self._files:
            with file.path.open("rb") as opened:
                while chunk := opened.read(_CHUNK):
                    state.update(chunk)
        return state.hexdigest()

    def select(self, rows: Sequence[int]) -> RowStore:
        """Some rows, in the order given."""
        chosen = np.fromiter((self._checked(row) for row in rows), dtype=np.int64, count=len(rows))
        if self._selection is not None:
            chosen = self._selection[chosen]
        return RowStore(self._files, self._groups, self._scores_are, chosen)

    def drop(self, bad: Collection[int]) -> RowStore:
        """All rows but these."""
        left = np.ones(len(self), dtype=np.bool_)
        left[[self._checked(row) for row in bad]] = False
        return self.select(np.flatnonzero(left).tolist())

    def __iter__(self) -> Iterator[TrainingRow]:
        return (self[index] for index in range(len(self)))

    def _source(self, index: int) -> str:
        file, _ = self._at(index)
        try:
            return self[index].source or file.name
        except RowError:
            return file.name

    def _at(self, index: int) -> tuple[RecordFile, list[int]]:
        row = self._checked(index)
        if self._selection is not None:
            row = int(self._selection[row])
        part = bisect_right(self._ends, row)
        row -= self._ends[part - 1] if part else 0
        rows = self._groups[part]
        return self._files[part], [row] if rows is None else rows.of(row)

    def _checked(self, index: int) -> int:
        # IndexError and nothing else ends the iteration of a Sequence.
        if not -len(self) <= index < len(self):
            raise IndexError(f"row {index!r} of {len(self)}")
        return index % len(self)
