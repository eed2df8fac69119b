"""Files of training rows as records, one after the other: JSON Lines, arrays and tables, packed or not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any, Literal, TypeAlias

from rerank_core.errors import InputError, short
from rerank_core.records.columns import Columns, count_known_names
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
    """What a file's name says of its form, a suffix of compression aside; and the suffix that says it.

    >>> format_from_name("corpus.jsonl.gz"), format_from_name("notes.txt"), format_from_name("rows.gz")
    (('jsonl', '.jsonl'), (None, '.txt'), (None, ''))
    """
    path = PurePath(name)
    if path.suffix.lower() in COMPRESSION_SUFFIXES:
        path = path.with_suffix("")
    suffix = path.suffix.lower()
    return SUFFIXES.get(suffix), suffix


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose keys stand in it once; of two values of one key a parser would keep the last without a word.

    Raises:
        ValueError: a key stands in it twice.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {short(next(key for key in keys if keys.count(key) > 1))} stands twice in an object")
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=unique_keys)


def parse_object(line: str) -> Record:
    """The object on a line.

    Raises:
        RowError: no JSON, no object, or a key twice.
    """
    try:
        value = _DECODER.decode(line.removeprefix(BYTE_ORDER_MARK))
    except (ValueError, RecursionError) as error:
        raise RowError(f"no JSON: {json_error_reason(error)}", "broken-json") from error
    if not isinstance(value, dict):
        raise RowError(f"{short(value)} is no JSON object", "not-an-object")
    return value


def is_json_array(head: str) -> bool:
    """Whether JSON that begins so is an array of records, or an object over several lines, rather than JSON Lines."""
    text = head.lstrip(f"{BYTE_ORDER_MARK} \t\r\n")
    return text.startswith("[") or (text.startswith("{") and not text.partition("\n")[0][1:].strip())


@dataclass(frozen=True)
class FileReader:
    """How one file is read.

    Attributes:
        form: found in its content where that tells, else in its name.
        columns: of a table.
        delimiter: of a table; None for JSON, and for tab-separated values in which quotes have no meaning.
        plain: lines of UTF-8 as they are, so that a place in the file is enough to find one.
    """

    path: Path
    name: str
    form: FileFormat
    encoding: str | None
    columns: Columns | None = None
    delimiter: str | None = None
    plain: bool = False

    @classmethod
    def of(cls, path: Path, name: str, encoding: str | None = None) -> FileReader:
        """How a file is read, by what it begins with.

        Raises:
            InputError: it cannot be read, or is none of the known forms.
            MissingDependencyError: it is compressed by zstd, and pyarrow is not installed.
        """
        said, suffix = format_from_name(path.name)
        with open_source(path, name) as source:
            if source.head.startswith(PARQUET_MAGIC):
                if source.compression is not None:
                    raise InputError(f"{name!r} is Parquet packed once more by {source.compression}; unpack it first")
                return cls(path, name, "parquet", None)
            if said == "parquet":
                raise InputError(f"{name!r} is named {suffix} and holds no Parquet; see what wrote it")
            packed = source.compression is not None
            macs = b"\n" not in source.head and b"\r" in source.head.rstrip(b"\r\n")
            encoding = encoding_of_source(source, encoding)
        plain = encoding in ("utf-8", "ascii") and not packed and not macs
        read = cls(path, name, "jsonl", encoding, plain=plain)
        if said in (None, "jsonl"):
            with open_source(path, name) as source:
                begin = next(
                    (piece.lstrip() for piece in decoded_pieces(source, encoding, "replace") if piece.strip()), ""
                )
            if is_json_array(begin):
                return replace(read, form="json", plain=False)
            if said == "jsonl" or begin.startswith("{"):
                return read
        return replace(read, form="table")._as_table(tabs=said == "tsv")

    @contextmanager
    def _lines(self) -> Iterator[Iterator[tuple[int, str]]]:
        with open_source(self.path, self.name) as source:
            # What is no UTF-8 is a matter of its line, for the reader of the lines to name.
            errors = "surrogateescape" if self.form == "jsonl" and self.encoding == "utf-8" else "strict"
            yield numbered_lines(decoded_pieces(source, self.encoding, errors), self.name)

    def _as_table(self, *, tabs: bool) -> FileReader:
        delimiters = "\t" if tabs else DELIMITERS
        with self._lines() as numbered:
            number, line, delimiter, header = first_row(numbered, count_known_names, delimiters)
            if number and not header and delimiter != "\t":
                raise InputError(
                    f"{self.name}:{number}: the first line is {short(line.strip())}; it must name the columns, for "
                    "example query,document,label or query,positive,negative"
                )
            quoted = delimiter != "\t"
            maybe = (
                not quoted
                and header
                and (may_have_quotes(line) or any(may_have_quotes(other) for _, other in numbered))
            )
        if maybe:
            with self._lines() as numbered:
                quoted = quotes_delimit_fields(numbered)
        columns, plain = Columns(), self.plain and not quoted and number <= 1
        if header:
            names = next(table_rows([(number, line)], delimiter, self.name))[1] if quoted else split_tabs(line)
            columns = Columns.from_header(names, self.name, comma=delimiter == ";")
        return replace(self, columns=columns, delimiter=delimiter if quoted else None, plain=plain)

    def entries(self) -> Iterator[tuple[int, str]]:
        """``(line, JSON)`` of each record but Parquet's: an object, or for a table the list of its fields.

        For JSON that is not one record a line, the number of the item stands for the line. Lines that are no JSON come
        as they are.

        Raises:
            InputError: damaged or undecodable bytes, an array or table that is broken.
        """
        if self.form == "json":
            with open_source(self.path, self.name) as source:
                found = json_values(decoded_pieces(source, self.encoding), self.name, json.JSONDecoder())
                for number, (_, text) in enumerate(found, start=1):
                    # Line breaks stand between the parts of JSON, never in them.
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
            first_row(numbered, count_known_names)
        if self.delimiter is not None:
            return table_rows(numbered, self.delimiter, self.name)
        return ((number, split_tabs(line)) for number, line in numbered if line.strip())

    def record(self, text: str) -> Record:
        """The record of an entry, or of a line of a plain file.

        Raises:
            RowError: it is none.
        """
        if self.columns is None:
            return parse_object(text)
        return self.columns.record(split_tabs(text) if self.plain else json.loads(text))
