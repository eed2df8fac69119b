"""Reads files of training rows record by record: JSON Lines, JSON arrays and tables, compressed or not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any, Literal, TypeAlias

from rerank_core.errors import InputError, short
from rerank_core.records.columns import TRAINING_HEADER, Columns, Header
from rerank_core.records.fields import Record, RowError
from rerank_core.records.text.decoding import BYTE_ORDER_MARK, decoded_pieces, encoding_of_source, numbered_lines
from rerank_core.records.text.json_stream import json_error_reason, json_values
from rerank_core.records.text.streams import COMPRESSION_SUFFIXES, PARQUET_MAGIC, open_source
from rerank_core.records.text.tables import (
    DELIMITERS,
    first_row,
    may_have_quotes,
    quotes_delimit_fields,
    split_tabs,
    table_rows,
)

__all__ = ["SUFFIXES", "FileFormat", "FileReader", "format_from_name", "is_json_array", "parse_object", "unique_keys"]

FileFormat: TypeAlias = Literal["jsonl", "json", "table", "tsv", "parquet"]

SUFFIXES: dict[str, FileFormat] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "table",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
}


def format_from_name(name: str) -> tuple[FileFormat | None, str]:
    """The format that a file's suffix names, and that suffix; a suffix of compression is skipped.

    >>> format_from_name("corpus.jsonl.gz"), format_from_name("notes.txt"), format_from_name("rows.gz")
    (('jsonl', '.jsonl'), (None, '.txt'), (None, ''))
    """
    path = PurePath(name)
    if path.suffix.lower() in COMPRESSION_SUFFIXES:
        path = path.with_suffix("")
    suffix = path.suffix.lower()
    return SUFFIXES.get(suffix), suffix


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build a JSON object, as ``object_pairs_hook`` of a decoder, and refuse duplicate keys.

    By default a decoder silently keeps the last of several values of a key.

    Raises:
        ValueError: a key occurs twice.
    """
    parsed = dict(pairs)
    if len(parsed) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {short(next(key for key in keys if keys.count(key) > 1))} occurs twice in an object")
    return parsed


_DECODER = json.JSONDecoder(object_pairs_hook=unique_keys)


def parse_object(line: str) -> Record:
    """Parse the JSON object on a line.

    Raises:
        RowError: the line is not JSON, not an object, or has a key twice.
    """
    try:
        value = _DECODER.decode(line.removeprefix(BYTE_ORDER_MARK))
    except (ValueError, RecursionError) as error:
        raise RowError(f"not JSON: {json_error_reason(error)}", "broken-json") from error
    if not isinstance(value, dict):
        raise RowError(f"{short(value)} is not a JSON object", "not-an-object")
    return value


def is_json_array(head: str) -> bool:
    """Whether JSON with this beginning is an array, or an object over several lines, rather than JSON Lines."""
    text = head.lstrip(f"{BYTE_ORDER_MARK} \t\r\n")
    return text.startswith("[") or (text.startswith("{") and not text.partition("\n")[0][1:].strip())


@dataclass(frozen=True)
class FileReader:
    """Reads one file, whose format and encoding were detected.

    Attributes:
        name: name of the file in messages.
        form: format of the file, from its content where possible and otherwise from its name.
        encoding: encoding of the text; None for Parquet.
        columns: the columns of a table; None for other formats.
        delimiter: delimiter of a table; None for other formats, and for tab-separated values without quoting.
        plain: each record is one line of uncompressed UTF-8, so that a byte offset is enough to read it again.
        header: how the header of a table is recognised.
    """

    path: Path
    name: str
    form: FileFormat
    encoding: str | None
    columns: Columns | None = None
    delimiter: str | None = None
    plain: bool = False
    header: Header = TRAINING_HEADER

    @classmethod
    def of(cls, path: Path, name: str, encoding: str | None = None, header: Header = TRAINING_HEADER) -> FileReader:
        """Detect the format and the encoding of a file.

        Raises:
            InputError: the file cannot be read, or its format is unknown.
            MissingDependencyError: the file is compressed with zstd, and pyarrow is not installed.
        """
        named, suffix = format_from_name(path.name)
        with open_source(path, name) as source:
            if source.head.startswith(PARQUET_MAGIC):
                if source.compression is not None:
                    raise InputError(f"{name!r} is Parquet compressed with {source.compression}; decompress it first")
                return cls(path, name, "parquet", None)
            if named == "parquet":
                raise InputError(
                    f"{name!r} is named {suffix} but is not a Parquet file; rename it by its format, or write it again"
                )
            compressed = source.compression is not None
            old_mac = b"\n" not in source.head and b"\r" in source.head.rstrip(b"\r\n")
            encoding = encoding_of_source(source, encoding)
        plain = encoding in ("utf-8", "ascii") and not compressed and not old_mac
        reader = cls(path, name, "jsonl", encoding, plain=plain, header=header)
        if named in (None, "jsonl"):
            with open_source(path, name) as source:
                start = next(
                    (piece.lstrip() for piece in decoded_pieces(source, encoding, "replace") if piece.strip()), ""
                )
            if is_json_array(start):
                return replace(reader, form="json", plain=False)
            if named == "jsonl" or start.startswith("{"):
                return reader
        return replace(reader, form="table")._as_table(tabs=named == "tsv")

    @contextmanager
    def _lines(self) -> Iterator[Iterator[tuple[int, str]]]:
        with open_source(self.path, self.name) as source:
            # Invalid UTF-8 is kept as surrogates, so that only the row with the invalid bytes is reported.
            errors = "surrogateescape" if self.form == "jsonl" and self.encoding == "utf-8" else "strict"
            yield numbered_lines(decoded_pieces(source, self.encoding, errors), self.name)

    def _as_table(self, *, tabs: bool) -> FileReader:
        delimiters = "\t" if tabs else DELIMITERS
        with self._lines() as numbered:
            number, line, delimiter, header = first_row(numbered, self.header.count, delimiters)
            if number and not header and delimiter != "\t":
                raise InputError(
                    f"{self.name}:{number}: the first line is {short(line.strip())}; it must be a header that "
                    f"names the columns, for example {self.header.example}"
                )
            quoted = delimiter != "\t"
            may_be_quoted = (
                not quoted
                and header
                and (may_have_quotes(line) or any(may_have_quotes(other) for _, other in numbered))
            )
        if may_be_quoted:
            with self._lines() as numbered:
                quoted = quotes_delimit_fields(numbered)
        columns, plain = Columns(), self.plain and not quoted and number <= 1
        if header:
            names = next(table_rows([(number, line)], delimiter, self.name))[1] if quoted else split_tabs(line)
            columns = Columns.from_header(names, self.name, comma=delimiter == ";")
        return replace(self, columns=columns, delimiter=delimiter if quoted else None, plain=plain)

    def entries(self) -> Iterator[tuple[int, str]]:
        """Yield ``(line number, JSON)`` for each record; not for Parquet.

        The JSON is an object, or for a table the list of its fields. For a JSON array or objects over several lines,
        the number of the item replaces the line number. Lines that are not valid JSON are yielded as they are.

        Raises:
            InputError: bytes are damaged or cannot be decoded, or an array or a table is malformed.
        """
        if self.form == "json":
            with open_source(self.path, self.name) as source:
                values = json_values(decoded_pieces(source, self.encoding), self.name, json.JSONDecoder())
                for number, (_, text) in enumerate(values, start=1):
                    # JSON has line breaks only between tokens, so replacing them changes no value.
                    yield number, text.replace("\n", " ").replace("\r", " ")
            return
        with self._lines() as numbered:
            if self.columns is None:
                yield from ((number, line.rstrip("\r\n")) for number, line in numbered if line.strip())
            else:
                for number, fields in self._rows(numbered):
                    yield number, json.dumps(fields)

    def _rows(self, numbered: Iterator[tuple[int, str]]) -> Iterator[tuple[int, list[str]]]:
        if self.columns is not None and self.columns.names:
            first_row(numbered, self.header.count)
        if self.delimiter is not None:
            return table_rows(numbered, self.delimiter, self.name)
        return ((number, split_tabs(line)) for number, line in numbered if line.strip())

    def record(self, text: str) -> Record:
        """Parse the JSON of an entry, or a line of a plain file.

        Raises:
            RowError: the text is not a record.
        """
        if self.columns is None:
            return parse_object(text)
        return self.columns.record(split_tabs(text) if self.plain else json.loads(text))
