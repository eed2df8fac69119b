"""Pointwise lines of one query become one row, which listwise objectives need."""

from __future__ import annotations

import re
from array import array
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rerank_core.records.fields import RowError
from rerank_core.records.row_converters import ScoresAre
from rerank_core.records.row_formats import format_of, to_training_row
from rerank_trainers.data.hashing import digest
from rerank_trainers.data.line_files import RecordFile, Step

__all__ = ["LineGroups", "group_lines"]

_STEP = 1000
_POINTWISE = frozenset({"pointwise", "sentence-pair"})
# What a pointwise line must have somewhere: lines without it need not be parsed.
_DOCUMENT = re.compile(rb'"(?:content|document|passage|answer|response|doc|text|sentence2)"\s*:\s*"')
_JUDGEMENT = re.compile(rb'"(?:label|score)s?"\s*:')


@dataclass(frozen=True)
class LineGroups:
    """Records by row: those of row ``i`` are ``members[starts[i]:starts[i + 1]]``, in the order of the file.

    Rows are in the order of their first records.
    """

    starts: npt.NDArray[np.int64]
    members: npt.NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def of(self, row: int) -> list[int]:
        """The records of a row."""
        return [int(place) for place in self.members[self.starts[row] : self.starts[row + 1]]]


def group_lines(file: RecordFile, scores_are: ScoresAre, step: Step) -> LineGroups | None:
    """The records of a file by row, or None where each is a row of its own.

    Records belong together that are pointwise and share query, instruction and source, and whether they have labels and
    scores. One that cannot be read stays alone, for the reader to name it.
    """
    size, done = file.path.stat().st_size, 0
    if not file.mentions("label", "labels", "score", "scores"):
        step(size)
        return None
    numbers: dict[int, int] = {}
    row_of_record = array("I")
    rows = 0
    for place, raw in file.raw():
        key = None
        if raw is None or (_DOCUMENT.search(raw) and _JUDGEMENT.search(raw)):
            key = _key(file, place, scores_are)
        row = rows if key is None else numbers.setdefault(key, rows)
        rows += row == rows
        row_of_record.append(row)
        if (place + 1) % _STEP == 0 or place + 1 == len(file):
            now = size * (place + 1) // len(file)
            step(now - done)
            done = now
    if rows == len(row_of_record):
        return None
    owners = np.frombuffer(row_of_record, dtype=np.uint32)
    starts = np.zeros(rows + 1, dtype=np.int64)
    np.cumsum(np.bincount(owners, minlength=rows), out=starts[1:])
    return LineGroups(starts, np.argsort(owners, kind="stable").astype(np.uint32))


def _key(file: RecordFile, place: int, scores_are: ScoresAre) -> int | None:
    try:
        record = file.record(place)
        if format_of(record) not in _POINTWISE:
            return None
        row = to_training_row(record, scores_are=scores_are)
    except RowError:
        return None
    if len(row.docs) != 1:
        return None
    judged = f"{row.labels is not None} {row.scores is not None}"
    return digest(row.query, row.instruction, row.source, judged)
