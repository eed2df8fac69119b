"""A line of a table as the object that JSONL would have."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from rerank_core.errors import InputError, short
from rerank_core.records.fields import Record, RowError
from rerank_core.records.row_formats import FORMATS, KEYS

__all__ = ["Columns", "column_names", "count_known_names"]

_NUMBERS = frozenset({"label", "score"})
_LISTS = frozenset({"pos", "neg", "docs", "documents", "passages", "answers", "responses", "texts"})
_NUMBER_LISTS = frozenset({"labels", "scores", "pos_scores", "neg_scores"})
# A row without them is none, so that their empty cells are empty texts or lists; any other empty cell is absent.
_NEEDED = frozenset(key for form in FORMATS.values() for group in form.needs for key in group)
_QUERIES = frozenset({"query", "anchor", "question", "sentence1"})
_KNOWN = re.compile("|".join([*map(re.escape, sorted(KEYS, key=len, reverse=True)), r"negative_\d+"]))
# A list of texts as pandas writes one into a cell, and NumPy's arrays without commas.
_PYTHON = re.compile(r"""\[\s*['"].*\]""", re.DOTALL)
# The row numbers that pandas writes as a column.
_PANDAS = re.compile(r"|Unnamed: \d+|__index_level_\d+__")


def count_known_names(fields: Sequence[str]) -> int:
    """How many of the fields of a first line name what rows have; 0 where the line is no header.

    >>> count_known_names(["Query", "document", "label", "lang"])
    3
    >>> count_known_names(["what is tin?", "Tin is a metal.", "1"])
    0
    """
    names = [field.strip().casefold() for field in fields]
    known = [name for name in names if _KNOWN.fullmatch(name)]
    return len(known) if len(known) > 1 and not _QUERIES.isdisjoint(known) else 0


def column_names(fields: Sequence[str], name: str) -> tuple[str, ...]:
    """The columns of a header; empty for those that pandas numbers rows in.

    Raises:
        InputError: two columns of one name.
    """
    names = [field.strip() for field in fields]
    names = ["" if _PANDAS.fullmatch(field) else field for field in names]
    twice = sorted({field for field in names if field and names.count(field) > 1})
    if twice:
        raise InputError(f"{name!r} has several columns named {' and '.join(map(repr, twice))}; rename or remove them")
    return tuple(names)


@dataclass(frozen=True)
class Columns:
    """What the columns hold: names from a header, or else ``query, document, label`` (RAG-Retrieval) or ``query, title,
    text, label`` (RocketQA; title and text become one document, with a space between).

    Attributes:
        comma: whether numbers may have a decimal comma, as where a semicolon separates columns.
    """

    names: tuple[str, ...] = ()
    comma: bool = False

    @classmethod
    def from_header(cls, header: Sequence[str], name: str, *, comma: bool = False) -> Columns:
        """From a header, whose known names may be in capitals.

        Raises:
            InputError: two columns of one name.
        """
        folded = [field.strip().casefold() for field in header]
        names = [low if _KNOWN.fullmatch(low) else field for low, field in zip(folded, header, strict=True)]
        return cls(column_names(names, name), comma)

    def record(self, fields: Sequence[str]) -> Record:
        """One line.

        Raises:
            RowError: another number of columns than expected.
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
            raise RowError(f"it has {len(fields)} columns, and the header {len(self.names)}", "tsv-columns")
        pairs = zip(self.names, fields, strict=False)
        return {name: self._value(name, field) for name, field in pairs if name}

    def _value(self, name: str, field: str) -> object:
        if name in _NUMBERS:
            return self._number(field)
        if not field and (name not in _NEEDED or name in _NUMBER_LISTS):
            return None
        if not field and name in _LISTS:
            return []
        if name in _LISTS or name in _NUMBER_LISTS:
            if field.lstrip().startswith("["):
                try:
                    return json.loads(field)
                except (ValueError, RecursionError) as error:
                    # Otherwise it is a text that begins so, or reading the row says what is wrong with it.
                    if _PYTHON.fullmatch(field.strip()):
                        raise RowError(
                            f"{name} is {short(field)}, a list as Python prints it; write lists into cells by "
                            "json.dumps, or the rows as JSON Lines",
                            "not-a-list",
                        ) from error
            return [self._number(field) if name in _NUMBER_LISTS else field]
        return field

    def _number(self, field: str) -> object:
        text = field.strip()
        if text.casefold() in ("true", "false"):
            return text.casefold() == "true"
        try:
            return float(text.replace(",", ".") if self.comma else text)
        except ValueError:
            # Reading the row says what is wrong with it; a cell without anything is absent.
            return field if text else None
