"""Parses CSV and TSV: finds the delimiter and the header, and splits rows whose fields may span lines."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from rerank_core.errors import InputError
from rerank_core.records.text.decoding import MAX_RECORD_CHARS

__all__ = ["DELIMITERS", "first_row", "may_have_quotes", "quotes_delimit_fields", "split_tabs", "table_rows"]

DELIMITERS = ",;\t|"
_OPENING_QUOTE = re.compile(r'(?:^|\t)"')
# Excel's line before the header that names the delimiter.
_EXCEL_SEPARATOR = re.compile(r'"?sep=(.)"?\r?\n?', re.IGNORECASE)


def first_row(
    lines: Iterator[tuple[int, str]], count_names: Callable[[Sequence[str]], int], delimiters: str = DELIMITERS
) -> tuple[int, str, str, bool]:
    """Find the first line of a table: ``(line number, line, delimiter, whether it is a header)``.

    The delimiter is the one that gives the most known column names, and among equals the most columns. The line number
    of an empty table is 0.

    Args:
        count_names: counts the known column names among the fields of a line; 0 if the line is not a header.
    """
    for number, line in lines:
        separator = _EXCEL_SEPARATOR.fullmatch(line)
        if separator is not None:
            delimiters = separator[1]
        elif line.strip():
            best = max(delimiters, key=lambda one: (count_names(_split(line, one)), len(_split(line, one))))
            return number, line, best, count_names(_split(line, best)) > 0
    return 0, "", delimiters[0], False


def split_tabs(line: str) -> list[str]:
    """Split a line at its tabs; quotes are ordinary characters."""
    return line.rstrip("\r\n").split("\t")


def table_rows(lines: Iterable[tuple[int, str]], delimiter: str, name: str) -> Iterator[tuple[int, list[str]]]:
    """Yield ``(number of the first line, fields)`` for each row; quoted fields may contain delimiters and line breaks.

    Raises:
        InputError: a quote is not closed, or text follows a closing quote.
    """
    numbers: list[int] = []

    def recorded_lines() -> Iterator[str]:
        for number, line in lines:
            numbers.append(number)
            yield line

    reader = csv.reader(recorded_lines(), delimiter=delimiter, strict=True)
    while True:
        numbers.clear()
        # The limit of the csv module is global to the process, so it is restored after each row.
        limit_before = csv.field_size_limit(MAX_RECORD_CHARS)
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            start, last = (numbers[0], numbers[-1]) if numbers else (1, 1)
            span = "" if start == last else f" (it ends on line {last})"
            raise InputError(
                f"{name}:{start}: the quotes of this row are not valid CSV{span}: {error}; put fields that contain "
                "quotes, separators or line breaks in quotes, and double the quotes inside them"
            ) from error
        finally:
            csv.field_size_limit(limit_before)
        if any(fields):
            yield numbers[0], fields


def may_have_quotes(line: str) -> bool:
    """Whether a field of a tab-separated line begins with a quote."""
    return _OPENING_QUOTE.search(line) is not None


def quotes_delimit_fields(lines: Iterable[tuple[int, str]]) -> bool:
    """Whether quotes in tab-separated values delimit fields, as Excel and pandas write them, or belong to the text.

    They delimit fields if the whole file parses that way with equally many columns in each row, and either a field
    contains a character that must be quoted or all fields of the header are quoted.
    """
    needed, width = False, 0
    first_line: list[str] = []
    try:
        for _, fields in table_rows(_record_first(lines, first_line), "\t", ""):
            if not width:
                width, needed = len(fields), bool(first_line) and _all_quoted(first_line[0])
            if len(fields) != width:
                return False
            needed = needed or any(mark in field for field in fields for mark in '\t\n"')
    except InputError:
        return False
    return needed


def _all_quoted(line: str) -> bool:
    return all(field.startswith('"') for field in split_tabs(line))


def _record_first(lines: Iterable[tuple[int, str]], first_line: list[str]) -> Iterator[tuple[int, str]]:
    """Yield the lines, and append the first of them to ``first_line``."""
    for number, line in lines:
        if not first_line:
            first_line.append(line)
        yield number, line


def _split(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line.rstrip("\r\n")], delimiter=delimiter), [])
    except csv.Error:
        return []
