"""Reads the rows of files into memory. (The trainers read rows from disk: `rerank_trainers.data.row_store`.)"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from rerank_core.records.fields import Record, RowError
from rerank_core.records.parquet import parquet_rows
from rerank_core.records.paths import expand_paths, short_names
from rerank_core.records.record_files import FileReader
from rerank_core.records.row_converters import ScoresAre, merge_rows
from rerank_core.records.row_formats import query_key, to_training_row
from rerank_core.records.training_row import TrainingRow

__all__ = ["read_rows"]


def read_rows(
    paths: Sequence[str | Path], *, scores_are: ScoresAre = "teacher", encoding: str | None = None
) -> list[TrainingRow]:
    """The rows of JSON, CSV, TSV and Parquet files, in order; formats (`row_formats`) may be mixed.

    The pointwise lines of one query in a file become one row, at the position of the first line, as in training.

    Args:
        paths: files and glob patterns such as ``dev/*.jsonl``.
        scores_are: what ``pos_scores`` and ``neg_scores`` are; see `row_formats.to_training_row`.
        encoding: text encoding of files that are not UTF-8, if it cannot be detected.

    Raises:
        InputError: no readable file of a known suffix at a path.
        RowError: a record that is not a row; the message has its file and line.
        MissingDependencyError: a Parquet file without pyarrow installed.
    """
    files = expand_paths(paths)
    rows: list[TrainingRow] = []
    for path, name in zip(files, short_names(files), strict=True):
        # Rows in the order of their first records; a record that is a row of its own has its line as key.
        groups: dict[object, list[TrainingRow]] = {}
        for line, key, row in _rows(FileReader.of(path, name, encoding), scores_are):
            groups.setdefault(line if key is None else key, []).append(row)
        rows.extend(group[0] if len(group) == 1 else merge_rows(group) for group in groups.values())
    return rows


def _rows(reader: FileReader, scores_are: ScoresAre) -> Iterator[tuple[int, object, TrainingRow]]:
    """``(line number, query_key, row)`` of each record; in Parquet and JSON arrays the number of the record."""
    decoder = replace(reader, plain=False)  # whose `record` reads what `entries` yields
    items: Iterator[tuple[int, str | Record]] = (
        enumerate(parquet_rows(reader.path, reader.name), start=1) if reader.form == "parquet" else reader.entries()
    )
    line = 0
    try:
        for line, item in items:
            record = decoder.record(_utf8(item)) if isinstance(item, str) else item
            row = to_training_row(record, scores_are=scores_are, source=reader.name, row_id=f"{reader.name}:{line}")
            yield line, query_key(record, row), row
    except RowError as error:
        raise error.at(reader.name, line) from error


def _utf8(text: str) -> str:
    """The text of an entry, which has a surrogate for each byte that is not UTF-8."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise RowError(
            f"a byte of the line, {ord(text[error.start]) & 0xFF:#04x}, is not UTF-8; if the whole file has another "
            "encoding, set it with --encoding",
            "not-utf-8",
        ) from error
    return text
