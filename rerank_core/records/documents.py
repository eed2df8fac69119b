"""From files and stdin to documents: nothing is dropped, and what is wrong is named with its line."""

from __future__ import annotations

import io
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NoReturn

from rerank_core.errors import InputError, short
from rerank_core.records.columns import column_names
from rerank_core.records.document_options import DocumentFields, DocumentFormat
from rerank_core.records.fields import key_of_object_list
from rerank_core.records.parquet import parquet_rows
from rerank_core.records.record_files import format_from_name, is_json_array, unique_keys
from rerank_core.records.text.decoding import BYTE_ORDER_MARK, MAX_RECORD_CHARS, decoded_pieces, numbered_lines
from rerank_core.records.text.json_stream import json_error_reason, json_values
from rerank_core.records.text.streams import PARQUET_MAGIC, Source, open_source
from rerank_core.records.text.tables import (
    DELIMITERS,
    first_row,
    may_have_quotes,
    quotes_delimit_fields,
    split_tabs,
    table_rows,
)
from rerank_core.types import Document

__all__ = ["read_documents"]

# What an array of documents on stdin begins with; a line of text may begin with a bracket, too.
_ARRAY = re.compile(r'\[\s*(?:\{|"(?:[^"\\]|\\.)*"\s*(?:,|\]\s*(?:\Z|\n))|\]\s*\Z)')


def read_documents(
    files: Sequence[str],
    form: DocumentFormat = DocumentFormat.auto,
    fields: DocumentFields | None = None,
    encoding: str | None = None,
) -> list[Document]:
    """The documents of all files, in order; stdin where there is no file, and for ``-``.

    Args:
        encoding: of files that are not UTF-8, where it cannot be told from what they hold.

    Raises:
        InputError: a file that cannot be read, is of another encoding, or holds a line that is no document.
        MissingDependencyError: Parquet or zstd, and no pyarrow.
    """
    if list(files).count("-") > 1:
        raise InputError("'-' is given more than once, and stdin can be read only once")
    documents: list[Document] = []
    for file in files or ["-"]:
        with open_source(file, "stdin" if file == "-" else file) as source:
            documents.extend(_documents(file, source, form, fields or DocumentFields(), encoding))
    return documents


def _documents(
    file: str, source: Source, form: DocumentFormat, fields: DocumentFields, encoding: str | None
) -> Iterator[Document]:
    parquet = source.head.startswith(PARQUET_MAGIC)
    if form is DocumentFormat.parquet or (
        form is DocumentFormat.auto and (parquet or format_from_name(file)[0] == "parquet")
    ):
        if not parquet:
            raise InputError(f"{source.name!r} holds no Parquet; say with --format what it holds")
        return _parquet(source, fields)
    pieces = decoded_pieces(source, encoding)
    begun: list[str] = []
    for piece in pieces:
        begun.append(piece)
        if piece.strip():
            break
    text = _chained(begun, pieces)
    if form is DocumentFormat.auto:
        form = _guess(file, source, "".join(begun).lstrip(), fields)
    return _READERS[form](text, source.name, fields)


def _chained(begun: list[str], rest: Iterator[str]) -> Iterator[str]:
    yield from begun
    yield from rest


def _guess(file: str, source: Source, begin: str, fields: DocumentFields) -> DocumentFormat:
    """By the name, and by the content where that has no known suffix."""
    said, suffix = format_from_name(file)
    if said == "jsonl":
        return DocumentFormat.json if is_json_array(begin) else DocumentFormat.jsonl
    if said is not None:
        return DocumentFormat.csv
    stream = file == "-" or not os.path.isfile(file)
    first = begin.partition("\n")[0].rstrip("\r")
    if stream or (not suffix and source.compression is not None):
        if begin.startswith("{"):
            return DocumentFormat.json if is_json_array(begin) else DocumentFormat.jsonl
        if _ARRAY.match(begin):
            return DocumentFormat.json
        _, _, delimiter, header = first_row(iter([(1, first)]), partial(_named, fields=fields))
        names = first.split(delimiter)
        if header and len(names) > 1 and all(name == name.strip() for name in names):
            return DocumentFormat.csv
        return DocumentFormat.lines if stream else DocumentFormat.text
    # Excel saves "Unicode text" as .txt.
    return DocumentFormat.csv if "\t" in first and _named(split_tabs(first), fields=fields) else DocumentFormat.text


def _named(names: Sequence[str], fields: DocumentFields) -> int:
    """How many of the two columns that documents are made of a header has; 0 without the text."""
    folded = [name.strip().casefold() for name in names]
    return 1 + (fields.id.casefold() in folded) if fields.text.casefold() in folded else 0


def _jsonl(text: Iterator[str], name: str, fields: DocumentFields) -> Iterator[Document]:
    for number, line in numbered_lines(text, name):
        if line.strip():
            place = f"{name}:{number}"
            yield _document(_parse(line.rstrip("\r\n").removeprefix(BYTE_ORDER_MARK), place), place, fields)


def _json(text: Iterator[str], name: str, fields: DocumentFields) -> Iterator[Document]:
    for number, (value, _) in enumerate(json_values(text, name, _DECODER)):
        yield _document(value, f"{name}: item {number}", fields)


def _csv(text: Iterator[str], name: str, fields: DocumentFields) -> Iterator[Document]:
    # Documents are kept anyway, and whether quotes count shows only when all is read.
    numbered = list(numbered_lines(text, name))
    left = iter(numbered)
    tabs = name.lower().split(".")[-1] in ("tsv", "tab")
    number, line, delimiter, header = first_row(left, partial(_named, fields=fields), "\t" if tabs else DELIMITERS)
    if not number:
        return
    quoted = delimiter != "\t" or (
        any(may_have_quotes(other) for _, other in numbered) and quotes_delimit_fields(numbered)
    )
    if quoted:
        first = next(table_rows([(number, line)], delimiter, name))[1]
        found = table_rows(left, delimiter, name)
    else:
        first, found = split_tabs(line), ((at, split_tabs(other)) for at, other in left if other.strip())
    if not header:
        # A collection of MS MARCO's: an id and a passage, without a header.
        if delimiter != "\t" or len(first) != 2 or not any(char.isdigit() for char in first[0]):
            raise InputError(
                f"{name}:{number}: the columns are {short(first)}, and none is {fields.text!r}; say with --text-field "
                "which one is the text, or with --format lines that these are no columns"
            )
        names: tuple[str, ...] = (fields.id, fields.text)
        found = _chained_rows((number, first), found)
    else:
        ours = {one.casefold(): one for one in (fields.text, fields.id)}
        spelled = [one.strip() for one in first]
        names = column_names([one if one in ours.values() else ours.get(one.casefold(), one) for one in spelled], name)
    for at, cells in found:
        if len(cells) < len(names) or any(cells[len(names) :]):
            raise InputError(f"{name}:{at}: it has {len(cells)} columns, and the header {len(names)}")
        yield _document({key: cell for key, cell in zip(names, cells, strict=False) if key}, f"{name}:{at}", fields)


def _chained_rows(
    first: tuple[int, list[str]], rest: Iterator[tuple[int, list[str]]]
) -> Iterator[tuple[int, list[str]]]:
    yield first
    yield from rest


def _parquet(source: Source, fields: DocumentFields) -> Iterator[Document]:
    # Its table of contents is at the end, and a pipe cannot be read from there.
    file = source.stream if source.stream.seekable() else io.BytesIO(source.stream.read())
    for number, row in enumerate(parquet_rows(file, source.name), start=1):
        plain = {key: value if key == fields.text else _plain(value) for key, value in row.items()}
        yield _document(plain, f"{source.name}: row {number}", fields)


def _plain(value: Any) -> Any:
    """A value of Parquet as JSON can hold it: no number for NaN, and text for dates, bytes and decimals."""
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value if value is None or isinstance(value, (str, bool, int, float)) else str(value)


def _lines(text: Iterator[str], name: str, fields: DocumentFields) -> Iterator[Document]:
    for number, line in numbered_lines(text, name):
        if line.strip():
            yield Document(line.removesuffix("\n").removesuffix("\r"), f"{name}:{number}")


def _text(text: Iterator[str], name: str, fields: DocumentFields) -> Iterator[Document]:
    pieces, size = [], 0
    for piece in text:
        pieces.append(piece)
        size += len(piece)
        if size > MAX_RECORD_CHARS:
            raise InputError(
                f"{name!r} is longer than {MAX_RECORD_CHARS:,} characters, too long for one document; split it"
            )
    yield Document("".join(pieces), name)


_Reader = Callable[[Iterator[str], str, DocumentFields], Iterator[Document]]
_READERS: dict[DocumentFormat, _Reader] = {
    DocumentFormat.jsonl: _jsonl,
    DocumentFormat.json: _json,
    DocumentFormat.csv: _csv,
    DocumentFormat.lines: _lines,
    DocumentFormat.text: _text,
}


def _parse(text: str, place: str) -> Any:
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{place}: not JSON: {error.msg} at column {error.colno}: {text[:60]!r}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place}: not JSON: {json_error_reason(error)}") from error


def _finite(number: str) -> float:
    value = float(number)
    if math.isinf(value):
        raise ValueError(f"{number} is too large a number")
    return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON value; write null")


_DECODER = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite, object_pairs_hook=unique_keys)


def _document(value: object, place: str, fields: DocumentFields) -> Document:
    if isinstance(value, str):
        return Document(value)
    if not isinstance(value, dict):
        raise InputError(f"{place}: a document is a JSON object or a string, and this is {_kind(value)}: {value!r:.60}")
    if fields.text not in value:
        listed = key_of_object_list(value)
        raise InputError(
            f"{place}: the object has no {short(fields.text)} (it has {short(sorted(value))}); "
            + (f"its {listed!r} is a list, which can be ranked alone: jq '.[\"{listed}\"]' FILE; or " if listed else "")
            + "say with --text-field where the text is"
        )
    # BEIR and MTEB call it so.
    key = "_id" if fields.id == "id" and "id" not in value and "_id" in value else fields.id
    text, own_id = value[fields.text], value.get(key)
    if not isinstance(text, str):
        raise InputError(f"{place}: {fields.text!r} is {text!r:.60} ({_kind(text)}); the text must be a string")
    if own_id is not None and (isinstance(own_id, bool) or not isinstance(own_id, (str, int))):
        raise InputError(f"{place}: {key!r} is {own_id!r:.60} ({_kind(own_id)}); an id is a string or an integer")
    rest = {name: item for name, item in value.items() if name not in (fields.text, key)}
    return Document(text, own_id, rest)


def _kind(value: object) -> str:
    """What JSON calls a parsed value."""
    kinds = {
        dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null", bytes: "bytes"
    }  # fmt: skip
    return kinds.get(type(value), "a number")
