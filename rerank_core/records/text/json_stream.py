"""JSON that is not one value a line: an array of records, or objects one after the other, each over several lines."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from rerank_core.errors import InputError
from rerank_core.records.text.decoding import MAX_RECORD_CHARS

__all__ = ["json_error_reason", "json_values"]

_SPACE = re.compile(r"[ \t\n\r]*")
# Within so many characters of what is read so far, an error may be that the rest is still to come.
_UNSURE = 16
_AFTER = frozenset(" \t\n\r,]")


def json_values(pieces: Iterable[str], name: str, decoder: json.JSONDecoder) -> Iterator[tuple[Any, str]]:
    """``(value, its text)`` of each item of an array, or of each value of a sequence; memory is bounded by one.

    Raises:
        InputError: no JSON, with line and column, or an item longer than `MAX_RECORD_CHARS`.
    """
    reader = _Reader(pieces, name, decoder)
    if reader.peek() != "[":
        while reader.peek():
            yield reader.value()
        return
    reader.skip()
    if reader.peek() == "]":
        reader.skip()
    else:
        while True:
            yield reader.value()
            mark = reader.peek()
            if mark not in (",", "]") or not mark:
                raise reader.error("Expecting ',' delimiter" if mark else "the array is not closed", reader.at)
            reader.skip()
            if mark == "]":
                break
    if reader.peek():
        raise reader.error("the array is closed, and more follows", reader.at)


def json_error_reason(error: Exception) -> str:
    """Why a JSON parser fails, without what it says to programmers."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return "a number has too many digits" if "integer string conversion" in str(error) else str(error)


class _Reader:
    def __init__(self, pieces: Iterable[str], name: str, decoder: json.JSONDecoder) -> None:
        self._pieces, self._name, self._decoder = iter(pieces), name, decoder
        self.text, self.at, self._line, self._column, self._ended = "", 0, 1, 1, False

    def peek(self) -> str:
        """The next character that is no white space; empty at the end."""
        while True:
            match = _SPACE.match(self.text, self.at)
            self.at = match.end() if match else self.at
            if self.at < len(self.text):
                return self.text[self.at]
            if not self._more():
                return ""

    def skip(self) -> None:
        self.at += 1

    def value(self) -> tuple[Any, str]:
        self.peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self.text, self.at)
            except json.JSONDecodeError as error:
                # A string without an end may end in what is not read yet.
                sure = not error.msg.startswith("Unterminated string") and error.pos < len(self.text) - _UNSURE
                if self._ended or sure:
                    raise self.error(error.msg, error.pos) from error
            except (ValueError, RecursionError) as error:
                raise self.error(json_error_reason(error), self.at) from error
            else:
                # A number may go on in what is not read yet.
                if self._ended or end < len(self.text) - _UNSURE or self.text[end : end + 1] in _AFTER:
                    found = self.text[self.at : end]
                    self.at = end
                    return value, found
            if len(self.text) - self.at > MAX_RECORD_CHARS:
                raise self.error(f"the item is longer than {MAX_RECORD_CHARS:,} characters", self.at)
            self._more()

    def error(self, reason: str, at: int) -> InputError:
        """What is wrong, with line and column."""
        line, column = self._place(at)
        snippet = self.text[at : at + 60]
        return InputError(f"{self._name}:{line}: not JSON: {reason} at column {column}: {snippet!r}")

    def _place(self, at: int) -> tuple[int, int]:
        breaks = self.text.count("\n", 0, at)
        column = at - self.text.rfind("\n", 0, at) if breaks else self._column + at
        return self._line + breaks, column

    def _more(self) -> bool:
        """Read at least as much as is left, so that a long item costs what it is long."""
        left = self.text[self.at :]
        self._line, self._column = self._place(self.at)
        pieces, wanted, size = [left], max(len(left), 1), 0
        while size < wanted:
            piece = next(self._pieces, None)
            if piece is None:
                self._ended = True
                break
            pieces.append(piece)
            size += len(piece)
        self.text, self.at = "".join(pieces), 0
        return size > 0
