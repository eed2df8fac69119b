"""Reads documents from files and stdin: none is dropped, and every error names its file and line."""

from __future__ import annotations

import io
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
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

# The beginning of a JSON array of objects or strings, as opposed to a line of text that begins with a bracket.
_JSON_ARRAY = re.compile(r'\[\s*(?:\{|"(?:[^"\\]|\\.)*"\s*(?:,|\]\s*(?:\Z|\n))|\]\s*\Z)')


def read_documents(
    files: Sequence[str],
    form: DocumentFormat = DocumentFormat.auto,
    fields: DocumentFields | None = None,
    encoding: str | None = None,
) -> list[Document]:
    """Read the documents of all files, in order; without files, and for ``-``, read stdin.

    Args:
        form: format of every file.
        fields: keys of text and id; by default ``text`` and ``id``.
        encoding: encoding of files that are not UTF-8, where it cannot be detected.

    Raises:
        InputError: a file cannot be read, has another encoding, or contains a line that is not a document.
        MissingDependencyError: a file is Parquet or compressed with zstd, and pyarrow is not installed.
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
            raise InputError(f"{source.name!r} is not a Parquet file; name its format with --format")
        return _parquet(source, fields)
    pieces = decoded_pieces(source, encoding)
    first_pieces: list[str] = []
    for piece in pieces:
        first_pieces.append(piece)
        if piece.strip():
            break
    text = chain(first_pieces, pieces)
    if form is DocumentFormat.auto:
        form = _detect_format(file, source, "".join(first_pieces).lstrip(), fields)
    return _READERS[form](text, source.name, fields)


def _detect_format(file: str, source: Source, start: str, fields: DocumentFields) -> DocumentFormat:
    """The format by the suffix of the name, and by the start of the text where the suffix is unknown."""
    named, suffix = format_from_name(file)
    if named == "jsonl":
        return DocumentFormat.json if is_json_array(start) else DocumentFormat.jsonl
    if named is not None:
        return DocumentFormat.csv
    stream = file == "-" or not os.path.isfile(file)
    first = start.partition("\n")[0].rstrip("\r")
    if stream or (not suffix and source.compression is not None):
        if start.startswith("{"):
            return DocumentFormat.json if is_json_array(start) else DocumentFormat.jsonl
        if _JSON_ARRAY.match(start):
            return DocumentFormat.json
        _, _, delimiter, header = first_row(iter([(1, first)]), partial(_count_fields, fields=fields))
        names = first.split(delimiter)
        if header and len(names) > 1 and all(name == name.strip() for name in names):
            return DocumentFormat.csv
        return DocumentFormat.lines if stream else DocumentFormat.text
    # Excel saves a tab-separated table as "Unicode text" with the suffix .txt.
    return (
        DocumentFormat.csv if "\t" in first and _count_fields(split_tabs(first), fields=fields) else DocumentFormat.text
    )


def _count_fields(names: Sequence[str], fields: DocumentFields) -> int:
    """2 for a header with the text and the id column, 1 for one with the text column only, otherwise 0."""
    folded = [name.strip().casefold() for name in names]
    return 1 + (fields.id.casefold() in folded) if fields.text.casefold() in folded else 0


def _jsonl(text: Iterator[str], name: str, fields: DocumentFields) -> Iterator[Document]:
    for number, line in numbered_lines(text, name):
        if line.strip():
            location = f"{name}:{number}"
            yield _document(_parse(line.rstrip("\r\n").removeprefix(BYTE_ORDER_MARK), location), location, fields)


def _json(text: Iterator[str], name: str, fields: DocumentFields) -> Iterator[Document]:
    for number, (value, _) in enumerate(json_values(text, name, _DECODER)):
        yield _document(value, f"{name}: item {number}", fields)


def _csv(text: Iterator[str], name: str, fields: DocumentFields) -> Iterator[Document]:
    # The whole file must be read to know whether quotes delimit fields.
    numbered = list(numbered_lines(text, name))
    remaining = iter(numbered)
    tab_suffix = name.lower().split(".")[-1] in ("tsv", "tab")
    number, line, delimiter, header = first_row(
        remaining, partial(_count_fields, fields=fields), "\t" if tab_suffix else DELIMITERS
    )
    if not number:
        return
    quoted = delimiter != "\t" or (
        any(may_have_quotes(other) for _, other in numbered) and quotes_delimit_fields(numbered)
    )
    if quoted:
        first = next(table_rows([(number, line)], delimiter, name))[1]
        numbered_rows = table_rows(remaining, delimiter, name)
    else:
        first, numbered_rows = split_tabs(line), ((at, split_tabs(row)) for at, row in remaining if row.strip())
    if not header:
        # The collection format of MS MARCO: an id and a passage, without a header.
        if delimiter != "\t" or len(first) != 2 or not any(char.isdigit() for char in first[0]):
            raise InputError(
                f"{name}:{number}: the columns are {short(first)}, and none is {fields.text!r}; name the text column "
                "with --text-field, or read each line as a document with --format lines"
            )
        names: tuple[str, ...] = (fields.id, fields.text)
        numbered_rows = chain([(number, first)], numbered_rows)
    else:
        known = {one.casefold(): one for one in (fields.text, fields.id)}
        header_names = [one.strip() for one in first]
        names = column_names(
            [one if one in known.values() else known.get(one.casefold(), one) for one in header_names], name
        )
    for at, cells in numbered_rows:
        if len(cells) < len(names) or any(cells[len(names) :]):
            raise InputError(f"{name}:{at}: it has {len(cells)} columns, and the header has {len(names)}")
        yield _document({key: cell for key, cell in zip(names, cells, strict=False) if key}, f"{name}:{at}", fields)


def _parquet(source: Source, fields: DocumentFields) -> Iterator[Document]:
    # The footer at the end of a Parquet file is read first, so a pipe must be read whole.
    file = source.stream if source.stream.seekable() else io.BytesIO(source.stream.read())
    for number, row in enumerate(parquet_rows(file, source.name), start=1):
        record = {key: value if key == fields.text else _as_json(value) for key, value in row.items()}
        yield _document(record, f"{source.name}: row {number}", fields)


def _as_json(value: Any) -> Any:
    """Convert a Parquet value to one that JSON can hold: NaN to None; infinities, dates, bytes and decimals to text."""
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    if isinstance(value, dict):
        return {str(key): _as_json(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_json(one) for one in value]
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
                f"{name!r} is longer than {MAX_RECORD_CHARS:,} characters, the limit of one document; split it"
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


def _parse(text: str, location: str) -> Any:
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{location}: not JSON: {error.msg} at column {error.colno}: {text[:60]!r}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{location}: not JSON: {json_error_reason(error)}") from error


def _finite(number: str) -> float:
    value = float(number)
    if math.isinf(value):
        raise ValueError(f"{number} is too large a number")
    return value


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON value; write null")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite, object_pairs_hook=unique_keys)


def _document(value: object, location: str, fields: DocumentFields) -> Document:
    if isinstance(value, str):
        return Document(value)
    if not isinstance(value, dict):
        raise InputError(
            f"{location}: a document must be a JSON object or a string, but this is {_kind(value)}: {value!r:.60}"
        )
    if fields.text not in value:
        list_key = key_of_object_list(value)
        raise InputError(
            f"{location}: the object has no {short(fields.text)} (it has {short(sorted(value))}); "
            + (
                f"its {list_key!r} is a list; to rank the objects in it: jq '.[\"{list_key}\"]' FILE; or "
                if list_key
                else ""
            )
            + "name the key of the text with --text-field"
        )
    # The id key of BEIR and MTEB.
    key = "_id" if fields.id == "id" and "id" not in value and "_id" in value else fields.id
    text, document_id = value[fields.text], value.get(key)
    if not isinstance(text, str):
        raise InputError(f"{location}: {fields.text!r} is {text!r:.60} ({_kind(text)}); the text must be a string")
    if document_id is not None and (isinstance(document_id, bool) or not isinstance(document_id, (str, int))):
        raise InputError(
            f"{location}: {key!r} is {document_id!r:.60} ({_kind(document_id)}); an id must be a string or an integer"
        )
    rest = {name: item for name, item in value.items() if name not in (fields.text, key)}
    return Document(text, document_id, rest)


def _kind(value: object) -> str:
    """The JSON type of a parsed value, with its article."""
    kinds = {
        dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null", bytes: "bytes"
    }  # fmt: skip
    return kinds.get(type(value), "a number")
