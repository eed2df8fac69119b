"""Converts a line of a table of training rows to a record, as if it had been an object of JSON Lines."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from rerank_core.errors import InputError, short
from rerank_core.records.fields import Record, RowError
from rerank_core.records.row_formats import FORMATS, KEYS

__all__ = ["TRAINING_HEADER", "Columns", "Header", "column_names", "count_known_names"]

_NUMBERS = frozenset({"label", "score"})
_LISTS = frozenset({"pos", "neg", "docs", "documents", "passages", "answers", "responses", "texts", "prompts"})
# A text, or a list of texts written as JSON.
_TEXT_OR_LIST = re.compile(r"positive|negative(_\d+)?")
_NUMBER_LISTS = frozenset({"labels", "scores", "pos_scores", "neg_scores"})
# Columns that some format requires: an empty cell in them is an empty text or list. Any other empty cell is absent.
_REQUIRED = frozenset(key for form in FORMATS.values() for group in form.needs for key in group)
_QUERIES = frozenset({"query", "anchor", "question", "sentence1"})
_KNOWN_NAME = re.compile("|".join([*map(re.escape, sorted(KEYS, key=len, reverse=True)), r"negative_\d+"]))
# A Python list of strings that pandas or NumPy printed into a cell.
_PYTHON_LIST = re.compile(r"""\[\s*['"].*\]""", re.DOTALL)
# Names of the column of row numbers that pandas writes.
_PANDAS_INDEX = re.compile(r"|Unnamed: \d+|__index_level_\d+__")


def count_known_names(fields: Sequence[str]) -> int:
    """Count the known column names in the first line of a table; 0 if the line is not a header.

    A header has at least two known names, and one of them is a query's.

    >>> count_known_names(["Query", "document", "label", "lang"])
    3
    >>> count_known_names(["what is tin?", "Tin is a metal.", "1"])
    0
    """
    names = [field.strip().casefold() for field in fields]
    known = [name for name in names if _KNOWN_NAME.fullmatch(name)]
    return len(known) if len(known) > 1 and not _QUERIES.isdisjoint(known) else 0


@dataclass(frozen=True)
class Header:
    """How the first line of a table is recognised.

    Attributes:
        count: counts the known names among the fields of a line; 0 if the line is not a header.
        example: a header for error messages.
    """

    count: Callable[[Sequence[str]], int]
    example: str

    @classmethod
    def of(cls, names: Collection[str]) -> Header:
        """A header that has at least two of the names, in any case.

        >>> Header.of(["id", "text", "title"]).count(["ID", "text", "url"])
        2
        """
        known = {name.casefold() for name in names}

        def count(fields: Sequence[str]) -> int:
            found = len(known & {field.strip().casefold() for field in fields})
            return found if found > 1 else 0

        return cls(count, ",".join(names))


TRAINING_HEADER = Header(count_known_names, "query,document,label or query,positive,negative")


def column_names(fields: Sequence[str], name: str) -> tuple[str, ...]:
    """The column names of a header; a column of pandas' row numbers gets an empty name.

    Raises:
        InputError: two columns have the same name.
    """
    names = [field.strip() for field in fields]
    names = ["" if _PANDAS_INDEX.fullmatch(field) else field for field in names]
    duplicates = sorted({field for field in names if field and names.count(field) > 1})
    if duplicates:
        raise InputError(
            f"{name!r} has several columns named {' and '.join(map(repr, duplicates))}; rename or remove them"
        )
    return tuple(names)


@dataclass(frozen=True)
class Columns:
    """The columns of a table.

    Without names, a line has 3 columns, ``query, document, label`` (RAG-Retrieval), or 4, ``query, title, text,
    label`` (RocketQA), where title and text are joined with a space to one document.

    Attributes:
        names: names of the header; empty if the table has no header.
        comma: numbers may have a decimal comma, as in tables whose columns are separated by semicolons.
    """

    names: tuple[str, ...] = ()
    comma: bool = False

    @classmethod
    def from_header(cls, header: Sequence[str], name: str, *, comma: bool = False) -> Columns:
        """The columns that a header names; known names are recognised in any case.

        Raises:
            InputError: two columns have the same name.
        """
        folded = [field.strip().casefold() for field in header]
        names = [key if _KNOWN_NAME.fullmatch(key) else field for key, field in zip(folded, header, strict=True)]
        return cls(column_names(names, name), comma)

    def record(self, fields: Sequence[str]) -> Record:
        """Convert the fields of one line to a record.

        Raises:
            RowError: the line has a wrong number of columns, or a cell holds a list as Python prints it.
        """
        if not self.names:
            if len(fields) not in (3, 4):
                raise RowError(
                    f"{short(fields)} has {len(fields)} columns; it must have 3 (query, document, label) or 4 (query, "
                    "title, text, label), or the file a header that names them",
                    "tsv-columns",
                )
            doc = " ".join(field for field in fields[1:-1] if field)
            return {"query": fields[0], "content": doc, "label": self._number(fields[-1])}
        if len(fields) < len(self.names) or any(fields[len(self.names) :]):
            raise RowError(f"it has {len(fields)} columns, and the header has {len(self.names)}", "tsv-columns")
        pairs = zip(self.names, fields, strict=False)
        return {name: self._value(name, field) for name, field in pairs if name}

    def _value(self, name: str, field: str) -> object:
        if name in _NUMBERS:
            return self._number(field)
        if not field and (name not in _REQUIRED or name in _NUMBER_LISTS):
            return None
        if not field and name in _LISTS:
            return []
        if name in _LISTS or name in _NUMBER_LISTS:
            found = _list_in(name, field)
            if found is None:
                return [self._number(field) if name in _NUMBER_LISTS else field]
            return found
        if _TEXT_OR_LIST.fullmatch(name):
            found = _list_in(name, field)
            # A text such as [12] is JSON too.
            return field if found is None or not all(isinstance(one, str) for one in found) else found
        return field

    def _number(self, field: str) -> object:
        text = field.strip()
        if text.casefold() in ("true", "false"):
            return text.casefold() == "true"
        try:
            return float(text.replace(",", ".") if self.comma else text)
        except ValueError:
            # A non-empty cell is returned as it is, so that converting the row reports it; an empty cell is absent.
            return field if text else None


def _list_in(name: str, field: str) -> list[object] | None:
    """The list that a cell holds as JSON; None for another text.

    Raises:
        RowError: the cell holds a list as Python prints it.
    """
    if not field.lstrip().startswith("["):
        return None
    try:
        found = json.loads(field)
    except (ValueError, RecursionError) as error:
        # Otherwise the cell is a text that begins with a bracket, or converting the row reports the error.
        if _PYTHON_LIST.fullmatch(field.strip()):
            raise RowError(
                f"{name} is {short(field)}, a list as Python prints it; write lists in cells with json.dumps, or write "
                "the rows as JSON Lines",
                "not-a-list",
            ) from error
        return None
    assert isinstance(found, list)
    return found
