"""From files and stdin to documents: nothing is dropped, and what is wrong is named with its line."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, NoReturn

from rerank_core.errors import InputError
from rerank_core.types import Document

__all__ = ["Fields", "Format", "read_documents"]


class Format(str, Enum):
    """How a file is cut into documents."""

    auto = "auto"
    jsonl = "jsonl"
    lines = "lines"
    text = "text"


@dataclass(frozen=True)
class Fields:
    """Which keys of a JSON object hold the text and the id."""

    text: str = "text"
    id: str = "id"


def read_documents(files: Sequence[str], form: Format = Format.auto, fields: Fields | None = None) -> list[Document]:
    """The documents of all files, in order; stdin where there is no file, and for ``-``.

    Raises:
        InputError: a file that cannot be read, is not UTF-8, or holds a line that is no document.
    """
    if list(files).count("-") > 1:
        raise InputError("'-' is given more than once, and stdin can be read only once")
    fields = fields or Fields()
    documents: list[Document] = []
    for file in files or ["-"]:
        name = "stdin" if file == "-" else file
        text = _decode(_stdin() if file == "-" else _bytes(file), name)
        if form is Format.auto and file != "-" and Path(file).suffix.lower() == ".json":
            documents.extend(_array(text, name, fields))
            continue
        chosen = _guess(file, text) if form is Format.auto else form
        documents.extend(_READERS[chosen](text, name, fields))
    return documents


def _stdin() -> bytes:
    return sys.stdin.buffer.read()


def _bytes(file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except IsADirectoryError as error:
        raise InputError(f"{file!r} is a directory; name its files, for example {file.rstrip('/')}/*.txt") from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InputError(f"{file!r} cannot be read: {reason}") from error


def _decode(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{name}:{line}: byte {data[error.start]:#04x} is not UTF-8; convert the file to UTF-8 first, "
            "for example with iconv"
        ) from error


def _guess(file: str, text: str) -> Format:
    if file == "-":
        return Format.jsonl if text.lstrip().startswith("{") else Format.lines
    return Format.jsonl if Path(file).suffix.lower() in (".jsonl", ".ndjson") else Format.text


def _numbered(text: str) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, with their number in the file. Only a line feed ends a line: JSON strings may
    hold the other separators that `str.splitlines` knows."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, line.removesuffix("\r")


def _jsonl(text: str, name: str, fields: Fields) -> Iterator[Document]:
    for number, line in _numbered(text):
        place = f"{name}:{number}"
        yield _document(_parse(line, place), place, fields)


def _array(text: str, name: str, fields: Fields) -> Iterator[Document]:
    values = _parse(text, name)
    if not isinstance(values, list):
        raise InputError(
            f"{name}: a .json file of documents holds an array, and this one holds {_kind(values)}; "
            "use --format jsonl for one document per line, or --format text for the file as it is"
        )
    for number, value in enumerate(values):
        yield _document(value, f"{name}: item {number}", fields)


def _lines(text: str, name: str, fields: Fields) -> Iterator[Document]:
    for number, line in _numbered(text):
        yield Document(line, f"{name}:{number}")


def _text(text: str, name: str, fields: Fields) -> Iterator[Document]:
    yield Document(text, name)


_READERS = {Format.jsonl: _jsonl, Format.lines: _lines, Format.text: _text}


def _parse(text: str, place: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except json.JSONDecodeError as error:
        # In one line of JSONL the parser's own line number is always 1.
        where = place if error.doc.count("\n") == 0 else f"{place}:{error.lineno}"
        raise InputError(f"{where}: not JSON: {error.msg} at column {error.colno}: {text[:60]!r}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place}: not JSON: {error}") from error


def _finite(number: str) -> float:
    value = float(number)
    if math.isinf(value):
        raise ValueError(f"{number} is too large a number")
    return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON value; write null")


def _document(value: object, place: str, fields: Fields) -> Document:
    if isinstance(value, str):
        return Document(value)
    if not isinstance(value, dict):
        raise InputError(f"{place}: a document is a JSON object or a string, and this is {_kind(value)}: {value!r:.60}")
    if fields.text not in value:
        raise InputError(
            f"{place}: the object has no {fields.text!r} (it has {sorted(value)!r}); "
            "say with --text-field where the text is"
        )
    text, own_id = value[fields.text], value.get(fields.id)
    if not isinstance(text, str):
        raise InputError(f"{place}: {fields.text!r} is {text!r:.60} ({_kind(text)}); the text must be a string")
    if own_id is not None and (isinstance(own_id, bool) or not isinstance(own_id, (str, int))):
        raise InputError(f"{place}: {fields.id!r} is {own_id!r:.60} ({_kind(own_id)}); an id is a string or an integer")
    rest = {key: item for key, item in value.items() if key not in (fields.text, fields.id)}
    return Document(text, own_id, rest)


def _kind(value: object) -> str:
    """What JSON calls a parsed value."""
    kinds = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return kinds.get(type(value), "a number")
