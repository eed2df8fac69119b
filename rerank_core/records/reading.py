"""Reads files from the first record to the last. (The trainers read rows from disk: `data.row_store`.)"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rerank_core.records.columns import TRAINING_HEADER, Header
from rerank_core.records.fields import Record, RowError
from rerank_core.records.parquet import parquet_rows
from rerank_core.records.paths import expand_paths, short_names
from rerank_core.records.record_files import FileReader
from rerank_core.records.row_converters import ScoresAre, merge_rows
from rerank_core.records.row_formats import query_key, to_training_row
from rerank_core.records.text.decoding import decoded_pieces, numbered_lines
from rerank_core.records.text.streams import open_source
from rerank_core.records.training_row import TrainingRow

__all__ = ["read_lines", "read_records", "read_rows"]


def read_lines(path: Path, *, encoding: str | None = None) -> Iterator[tuple[int, str]]:
    """Yield ``(line number, line)``, without line ends, of a text that may be compressed; blank lines are skipped.

    Raises:
        InputError: the file cannot be read, or has another encoding.
    """
    with open_source(path, str(path)) as source:
        for number, line in numbered_lines(decoded_pieces(source, encoding), str(path)):
            if line.strip():
                yield number, line.rstrip("\r\n")


def read_records(
    path: Path,
    columns: Sequence[str] | None = None,
    *,
    without_header: Mapping[int, Sequence[str]] | None = None,
    name: str | None = None,
    encoding: str | None = None,
) -> Iterator[tuple[int, Record]]:
    """Yield ``(line number, record)`` of a file of JSON Lines, a JSON array, a table or Parquet, compressed or not.

    In a JSON array and in Parquet, the number of the item replaces the line number.

    Args:
        columns: names by which the header of a table is recognised, in any case; by default those of training rows.
        without_header: the columns of a table that has no header, by their number, such as ``{2: ("id", "text")}``.
        name: name of the file in messages; by default its path.

    Raises:
        InputError: the file cannot be read; `RowError`, with file and line, for a single record.
        MissingDependencyError: the file is Parquet or compressed with zstd, and pyarrow is not installed.
    """
    name = str(path) if name is None else name
    reader = FileReader.of(path, name, encoding, TRAINING_HEADER if columns is None else Header.of(columns))
    if reader.form == "parquet":
        yield from enumerate(parquet_rows(path, name), start=1)
        return
    spelling = {column.casefold(): column for column in columns or ()}
    # An entry is JSON, also where `FileReader.record` would take a line of a plain file.
    decoder = replace(reader, plain=False)
    number = 0
    try:
        for number, entry in reader.entries():
            record = _record(decoder, _utf8(entry), without_header)
            yield number, {spelling.get(key.casefold(), key): value for key, value in record.items()}
    except RowError as error:
        raise error.at(name, number) from error


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
        for line, record in read_records(path, name=name, encoding=encoding):
            key, row = _row(record, scores_are, name, line)
            groups.setdefault(line if key is None else key, []).append(row)
        rows.extend(group[0] if len(group) == 1 else merge_rows(group) for group in groups.values())
    return rows


def _row(record: Record, scores_are: ScoresAre, name: str, line: int) -> tuple[object, TrainingRow]:
    """`query_key` and the row of a record."""
    try:
        row = to_training_row(record, scores_are=scores_are, source=name, row_id=f"{name}:{line}")
        return query_key(record, row), row
    except RowError as error:
        raise error.at(name, line) from error


def _record(decoder: FileReader, entry: str, without_header: Mapping[int, Sequence[str]] | None) -> Record:
    """The record of an entry."""
    if without_header is None or decoder.columns is None or decoder.columns.names:
        return decoder.record(entry)
    fields = json.loads(entry)
    if len(fields) not in without_header:
        widths = " or ".join(f"{width} ({', '.join(names)})" for width, names in without_header.items())
        raise RowError(f"it has {len(fields)} columns; it must have {widths}, or the file a header", "tsv-columns")
    return dict(zip(without_header[len(fields)], fields, strict=True))


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
