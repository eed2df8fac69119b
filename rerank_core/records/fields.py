"""One value of a decoded object, as what a format needs there; what is not that is a `RowError` of a named kind."""

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
    """A row that cannot be used.

    Attributes:
        reason: what is wrong with it.
        kind: the same in kebab-case, what reports count by.
        file: the name of its file, and ``line``, from 1; None until the reader of the file adds them.
    """

    def __init__(self, reason: str, kind: str, file: str | None = None, line: int | None = None) -> None:
        super().__init__(reason if file is None else f"{file}:{line}: {reason}")
        self.reason, self.kind, self.file, self.line = reason, kind, file, line

    def __reduce__(self) -> tuple[type[RowError], tuple[str, str, str | None, int | None]]:
        # Raised in data-loading workers, which pickle it.
        return type(self), (self.reason, self.kind, self.file, self.line)

    def at(self, file: str, line: int) -> RowError:
        """The same, with where it is."""
        return RowError(self.reason, self.kind, file, line)


def key_of_object_list(record: Record) -> str | None:
    """The key of a list of objects in a record, which is then likely to be what was meant to be read."""
    lists = (key for key, value in record.items() if isinstance(value, list) and value and isinstance(value[0], dict))
    return next(lists, None)


def present_key(record: Record, *keys: str) -> str | None:
    """The one of ``keys`` that the record has; null is absent, as in Parquet, where every row has every column.

    Raises:
        RowError: it has several, and which is meant nobody knows.
    """
    found = [key for key in keys if record.get(key) is not None]
    if len(found) > 1:
        raise RowError(
            f"it has {' and '.join(map(repr, found))}, which mean the same here; keep one", "ambiguous-format"
        )
    return found[0] if found else None


def text(value: object, name: str) -> str:
    """A string, blank or not.

    Raises:
        RowError: anything else.
    """
    if isinstance(value, str):
        return value
    raise RowError(f"{name} is {short(value)}; it must be a string", "not-a-string")


def texts(value: object, name: str) -> tuple[str, ...]:
    """A list of strings.

    Raises:
        RowError: a bare string, whose characters other trainers take for documents; no list; an item that is no string.
    """
    if isinstance(value, str):
        raise RowError(f"{name} is the string {short(value)}; it must be a list of strings", "string-for-list")
    return _each(value, name, text)


def one_or_more(value: object, name: str) -> tuple[str, ...]:
    """A string, or a list of strings, for columns that may hold either.

    Raises:
        RowError: anything else, or an item that is no string.
    """
    if isinstance(value, str):
        return (value,)
    if isinstance(value, (list, tuple)):
        return texts(value, name)
    raise RowError(f"{name} is {short(value)}; it must be a string, or a list of strings", "not-a-string")


def number(value: object, name: str) -> float:
    """A number; true and false are 1 and 0. NaN and infinities pass, for the report to name them.

    Raises:
        RowError: anything else, a number in quotes too.
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
        RowError: no list, another length, or an item that is no number.
    """
    found = _each(value, name, number)
    if len(found) != count:
        raise RowError(f"{name} has {len(found)} numbers for {count} documents", "length-mismatch")
    return found


def _each(value: object, name: str, read: Callable[[object, str], _T]) -> tuple[_T, ...]:
    if not isinstance(value, (list, tuple)):
        raise RowError(f"{name} is {short(value)}; it must be a list", "not-a-list")
    return tuple(read(item, f"{name}[{place}]") for place, item in enumerate(value))
