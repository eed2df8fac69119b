"""Groups the pointwise lines of one query into one row, which pairwise and listwise objectives need."""

from __future__ import annotations

import re
from array import array
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rerank_core.records.fields import RowError
from rerank_core.records.row_converters import ScoresAre
from rerank_core.records.row_formats import query_key, to_training_row
from rerank_trainers.data.hashing import digest
from rerank_trainers.data.line_files import RecordFile, Step

__all__ = ["LineGroups", "group_lines"]

_PROGRESS_LINES = 1000
# Every pointwise line has such keys, so lines without them need not be parsed.
_DOCUMENT = re.compile(rb'"(?:content|document|passage|answer|response|doc|text|sentence2)"\s*:\s*"')
_JUDGEMENT = re.compile(rb'"(?:label|score)s?"\s*:')


@dataclass(frozen=True)
class LineGroups:
    """The records of each row: those of row ``i`` are ``members[starts[i]:starts[i + 1]]``, in the order of the file.

    Rows are in the order of their first records.
    """

    starts: npt.NDArray[np.int64]
    members: npt.NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def of(self, row: int) -> list[int]:
        """The record numbers of a row."""
        return [int(record) for record in self.members[self.starts[row] : self.starts[row + 1]]]


def group_lines(file: RecordFile, scores_are: ScoresAre, step: Step) -> LineGroups | None:
    """Group the records of a file into rows; None if every record is a row of its own.

    Pointwise records are grouped if they have the same query, instruction and source, and all or none of them have
    labels, and scores. An unreadable record becomes a row of its own, which reports the error when it is read.

    Args:
        step: called with the number of bytes read since the last call.
    """
    size, done = file.path.stat().st_size, 0
    if not file.mentions("label", "labels", "score", "scores"):
        step(size)
        return None
    row_by_key: dict[int, int] = {}
    row_of_record = array("I")
    rows = 0
    for record, raw in file.raw():
        key = None
        if raw is None or (_DOCUMENT.search(raw) and _JUDGEMENT.search(raw)):
            key = _key(file, record, scores_are)
        row = rows if key is None else row_by_key.setdefault(key, rows)
        rows += row == rows
        row_of_record.append(row)
        if (record + 1) % _PROGRESS_LINES == 0 or record + 1 == len(file):
            position = size * (record + 1) // len(file)
            step(position - done)
            done = position
    if rows == len(row_of_record):
        return None
    rows_by_record = np.frombuffer(row_of_record, dtype=np.uint32)
    starts = np.zeros(rows + 1, dtype=np.int64)
    np.cumsum(np.bincount(rows_by_record, minlength=rows), out=starts[1:])
    return LineGroups(starts, np.argsort(rows_by_record, kind="stable").astype(np.uint32))


def _key(file: RecordFile, number: int, scores_are: ScoresAre) -> int | None:
    """A hash that the pointwise records of one row share; None for any other record."""
    try:
        record = file.record(number)
        key = query_key(record, to_training_row(record, scores_are=scores_are))
    except RowError:
        return None
    return None if key is None else digest(*key)
