"""Files of training rows as records, one after the other: JSON Lines, arrays and tables, packed or not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any, Literal, TypeAlias

from rerank_core.errors import InputError, short
from rerank_core.records.columns import Columns, fitting
from rerank_core.records.fields import Record, RowError
from rerank_core.records.text.decoding import MARK, lines, settled, texts
from rerank_core.records.text.json_arrays import items, reason_of
from rerank_core.records.text.streams import PACKED, PARQUET, opened
from rerank_core.records.text.tables import DELIMITERS, cut, first_row, may_quote, quotes_count, rows

__all__ = ["SUFFIXES", "Form", "Reading", "is_array", "loads", "named_form", "once_each"]

Form: TypeAlias = Literal["jsonl", "json", "table", "tsv", "parquet"]

SUFFIXES: dict[str, Form] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "table",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
}


def named_form(name: str) -> tuple[Form | None, str]:
    """What a file's name says of its form, a suffix of compression aside; and the suffix that says it.

    >>> named_form("corpus.jsonl.gz"), named_form("notes.txt"), named_form("rows.gz")
    (('jsonl', '.jsonl'), (None, '.txt'), (None, ''))
    """
    path = PurePath(name)
    if path.suffix.lower() in PACKED:
        path = path.with_suffix("")
    suffix = path.suffix.lower()
    return SUFFIXES.get(suffix), suffix


def once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose keys stand in it once; of two values of one key a parser would keep the last without a word.

    Raises:
        ValueError: a key stands in it twice.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {short(next(key for key in keys if keys.count(key) > 1))} stands twice in an object")
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=once_each)


def loads(line: str) -> Record:
    """The object on a line.

    Raises:
        RowError: no JSON, no object, or a key twice.
    """
    try:
        value = _DECODER.decode(line.removeprefix(MARK))
    except (ValueError, RecursionError) as error:
        raise RowError(f"no JSON: {reason_of(error)}", "broken-json") from error
    if not isinstance(value, dict):
        raise RowError(f"{short(value)} is no JSON object", "not-an-object")
    return value


def is_array(head: str) -> bool:
    """Whether JSON that begins so is an array of records, or an object over several lines, rather than JSON Lines."""
    text = head.lstrip(f"{MARK} \t\r\n")
    return text.startswith("[") or (text.startswith("{") and not text.partition("\n")[0][1:].strip())


@dataclass(frozen=True)
class Reading:
    """How one file is read.

    Attributes:
        form: found in its content where that tells, else in its name.
        columns: of a table.
        delimiter: of a table; None for JSON, and for tab-separated values in which quotes have no meaning.
        plain: lines of UTF-8 as they are, so that a place in the file is enough to find one.
    """

    path: Path
    name: str
    form: Form
    encoding: str | None
    columns: Columns | None = None
    delimiter: str | None = None
    plain: bool = False

    @classmethod
    def of(cls, path: Path, name: str, encoding: str | None = None) -> Reading:
        """How a file is read, by what it begins with.

        Raises:
            InputError: it cannot be read, or is none of the known forms.
            MissingDependencyError: it is compressed by zstd, and pyarrow is not installed.
        """
        said, suffix = named_form(path.name)
        with opened(path, name) as source:
            if source.head.startswith(PARQUET):
                if source.packing is not None:
                    raise InputError(f"{name!r} is Parquet packed once more by {source.packing}; unpack it first")
                return cls(path, name, "parquet", None)
            if said == "parquet":
                raise InputError(f"{name!r} is named {suffix} and holds no Parquet; see what wrote it")
            packed = source.packing is not None
            macs = b"\n" not in source.head and b"\r" in source.head.rstrip(b"\r\n")
            encoding = settled(source, encoding)
        plain = encoding in ("utf-8", "ascii") and not packed and not macs
        read = cls(path, name, "jsonl", encoding, plain=plain)
        if said in (None, "jsonl"):
            with opened(path, name) as source:
                begin = next((piece.lstrip() for piece in texts(source, encoding, "replace") if piece.strip()), "")
            if is_array(begin):
                return replace(read, form="json", plain=False)
            if said == "jsonl" or begin.startswith("{"):
                return read
        return replace(read, form="table")._as_table(tabs=said == "tsv")

    @contextmanager
    def _lines(self) -> Iterator[Iterator[tuple[int, str]]]:
        with opened(self.path, self.name) as source:
            # What is no UTF-8 is a matter of its line, for the reader of the lines to name.
            errors = "surrogateescape" if self.form == "jsonl" and self.encoding == "utf-8" else "strict"
            yield lines(texts(source, self.encoding, errors), self.name)

    def _as_table(self, *, tabs: bool) -> Reading:
        delimiters = "\t" if tabs else DELIMITERS
        with self._lines() as numbered:
            number, line, delimiter, header = first_row(numbered, fitting, delimiters)
            if number and not header and delimiter != "\t":
                raise InputError(
                    f"{self.name}:{number}: the first line is {short(line.strip())}; it must name the columns, for "
                    "example query,document,label or query,positive,negative"
                )
            quoted = delimiter != "\t"
            maybe = not quoted and header and (may_quote(line) or any(may_quote(other) for _, other in numbered))
        if maybe:
            with self._lines() as numbered:
                quoted = quotes_count(numbered)
        columns, plain = Columns(), self.plain and not quoted and number <= 1
        if header:
            names = next(rows([(number, line)], delimiter, self.name))[1] if quoted else cut(line)
            columns = Columns.of(names, self.name, comma=delimiter == ";")
        return replace(self, columns=columns, delimiter=delimiter if quoted else None, plain=plain)

    def entries(self) -> Iterator[tuple[int, str]]:
        """``(line, JSON)`` of each record but Parquet's: an object, or for a table the list of its fields.

        For JSON that is not one record a line, the number of the item stands for the line. Lines that are no JSON come
        as they are.

        Raises:
            InputError: damaged or undecodable bytes, an array or table that is broken.
        """
        if self.form == "json":
            with opened(self.path, self.name) as source:
                found = items(texts(source, self.encoding), self.name, json.JSONDecoder())
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
            first_row(numbered, fitting)
        if self.delimiter is not None:
            return rows(numbered, self.delimiter, self.name)
        return ((number, cut(line)) for number, line in numbered if line.strip())

    def record(self, text: str) -> Record:
        """The record of an entry, or of a line of a plain file.

        Raises:
            RowError: it is none.
        """
        if self.columns is None:
            return loads(text)
        return self.columns.record(cut(text) if self.plain else json.loads(text))
