"""CSV and TSV: what separates the columns, whether there is a header, and rows whose fields may span lines."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from rerank_core.errors import InputError
from rerank_core.records.text.decoding import MAX_RECORD_CHARS

__all__ = ["DELIMITERS", "first_row", "may_have_quotes", "quotes_delimit_fields", "split_tabs", "table_rows"]

DELIMITERS = ",;\t|"
_OPENS = re.compile(r'(?:^|\t)"')
# Excel reads and writes this before the header.
_SEP = re.compile(r'"?sep=(.)"?\r?\n?', re.IGNORECASE)


def first_row(
    lines: Iterator[tuple[int, str]], fits: Callable[[Sequence[str]], int], delimiters: str = DELIMITERS
) -> tuple[int, str, str, bool]:
    """``(number, first line, delimiter, whether it is a header)`` of a table.

    The delimiter is the one under which the first line has the most names that ``fits`` counts; where none has any, it
    is the one that makes the most columns. An empty table has line 0.
    """
    for number, line in lines:
        said = _SEP.fullmatch(line)
        if said is not None:
            delimiters = said[1]
        elif line.strip():
            found = max(delimiters, key=lambda one: (fits(_split(line, one)), len(_split(line, one))))
            return number, line, found, fits(_split(line, found)) > 0
    return 0, "", delimiters[0], False


def split_tabs(line: str) -> list[str]:
    """The fields of a line of tab-separated values in which quotes have no meaning."""
    return line.rstrip("\r\n").split("\t")


def table_rows(lines: Iterable[tuple[int, str]], delimiter: str, name: str) -> Iterator[tuple[int, list[str]]]:
    """``(number of its first line, its fields)`` of each row; a field in quotes may hold delimiters and line breaks.

    Raises:
        InputError: quotes that are not closed, or text beside them.
    """
    numbers: list[int] = []

    def fed() -> Iterator[str]:
        for number, line in lines:
            numbers.append(number)
            yield line

    reader = csv.reader(fed(), delimiter=delimiter, strict=True)
    while True:
        numbers.clear()
        # The module's limit holds for the whole process, so it is put back at once.
        before = csv.field_size_limit(MAX_RECORD_CHARS)
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            start, last = (numbers[0], numbers[-1]) if numbers else (1, 1)
            span = "" if start == last else f" (it goes on to line {last})"
            raise InputError(
                f"{name}:{start}: the quotes of this row are not as a table has them{span}: {error}; a field that "
                "holds quotes, separators or line breaks stands in quotes, and quotes inside it are doubled"
            ) from error
        finally:
            csv.field_size_limit(before)
        if any(fields):
            yield numbers[0], fields


def may_have_quotes(line: str) -> bool:
    """Whether some field of a tab-separated line begins with a quote."""
    return _OPENS.search(line) is not None


def quotes_delimit_fields(lines: Iterable[tuple[int, str]]) -> bool:
    """Whether quotes around the fields of tab-separated values are no part of them, as Excel and pandas write them.

    So it is where all of the file reads that way, and some field needs its quotes or the header has them.
    """
    needed, width = False, 0
    noted: list[str] = []
    try:
        for _, fields in table_rows(_noting(lines, noted), "\t", ""):
            if not width:
                width, needed = len(fields), bool(noted) and all(part.startswith('"') for part in split_tabs(noted[0]))
            if len(fields) != width:
                return False
            needed = needed or any(mark in field for field in fields for mark in '\t\n"')
    except InputError:
        return False
    return needed


def _noting(lines: Iterable[tuple[int, str]], noted: list[str]) -> Iterator[tuple[int, str]]:
    for number, line in lines:
        if not noted:
            noted.append(line)
        yield number, line


def _split(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line.rstrip("\r\n")], delimiter=delimiter), [])
    except csv.Error:
        return []
