"""Checked access to the values of a record: each function returns the needed type or raises `RowError`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias, TypeVar

from rerank_core.errors import InputError, short

__all__ = [
    "Record",
    "RowError",
    "key_of_object_list",
    "number",
    "numbers",
    "one_or_more",
    "present_key",
    "text",
    "texts",
]

Record: TypeAlias = Mapping[str, object]
_T = TypeVar("_T")


class RowError(InputError):
    """A row that cannot be used for training.

    Attributes:
        reason: the fault of the row, in words for a reader.
        kind: the kind of fault in kebab-case; reports count faults by kind.
        file: name of the file; None until the reader of the file adds it.
        line: line number, from 1; None until the reader of the file adds it.
    """

    def __init__(self, reason: str, kind: str, file: str | None = None, line: int | None = None) -> None:
        super().__init__(reason if file is None else f"{file}:{line}: {reason}")
        self.reason, self.kind, self.file, self.line = reason, kind, file, line

    def __reduce__(self) -> tuple[type[RowError], tuple[str, str, str | None, int | None]]:
        # Workers of a DataLoader raise this error and pickle it.
        return type(self), (self.reason, self.kind, self.file, self.line)

    def at(self, file: str, line: int) -> RowError:
        """The same error with its file and line."""
        return RowError(self.reason, self.kind, file, line)


def key_of_object_list(record: Record) -> str | None:
    """The first key of a record whose value is a list of objects, which are then probably the records; None if none."""
    keys = (key for key, value in record.items() if isinstance(value, list) and value and isinstance(value[0], dict))
    return next(keys, None)


def present_key(record: Record, *keys: str) -> str | None:
    """The one of ``keys`` that the record has; None if none.

    A null value counts as absent, because in Parquet every row has every column.

    Raises:
        RowError: the record has several of the keys.
    """
    matches = [key for key in keys if record.get(key) is not None]
    if len(matches) > 1:
        raise RowError(
            f"it has {' and '.join(map(repr, matches))}, which mean the same here; keep one", "ambiguous-format"
        )
    return matches[0] if matches else None


def text(value: object, name: str) -> str:
    """A string; it may be blank.

    Raises:
        RowError: the value is not a string.
    """
    if isinstance(value, str):
        return value
    raise RowError(f"{name} is {short(value)}; it must be a string", "not-a-string")


def texts(value: object, name: str) -> tuple[str, ...]:
    """A list of strings.

    Raises:
        RowError: the value is not a list of strings. A single string is an error too; some other trainers read its
            characters as documents.
    """
    if isinstance(value, str):
        raise RowError(f"{name} is the string {short(value)}; it must be a list of strings", "string-for-list")
    return _each(value, name, text)


def one_or_more(value: object, name: str) -> tuple[str, ...]:
    """A string or a list of strings, as a tuple.

    Raises:
        RowError: the value is neither.
    """
    if isinstance(value, str):
        return (value,)
    if isinstance(value, (list, tuple)):
        return texts(value, name)
    raise RowError(f"{name} is {short(value)}; it must be a string, or a list of strings", "not-a-string")


def number(value: object, name: str) -> float:
    """A number; true and false are 1 and 0. NaN and infinities are returned, and the data check reports them.

    Raises:
        RowError: the value is not a number, such as a number in quotes.
    """
    if isinstance(value, (int, float)):
        try:
            return float(value)
        except OverflowError:
            return float("inf")
    raise RowError(f"{name} is {short(value)}; it must be a number", "not-a-number")


def numbers(value: object, name: str, count: int) -> tuple[float, ...]:
    """A list of ``count`` numbers.

    Raises:
        RowError: the value is not a list, has another length, or an item is not a number.
    """
    values = _each(value, name, number)
    if len(values) != count:
        raise RowError(f"{name} has {len(values)} numbers for {count} documents", "length-mismatch")
    return values


def _each(value: object, name: str, read: Callable[[object, str], _T]) -> tuple[_T, ...]:
    if not isinstance(value, (list, tuple)):
        raise RowError(f"{name} is {short(value)}; it must be a list", "not-a-list")
    return tuple(read(item, f"{name}[{position}]") for position, item in enumerate(value))
