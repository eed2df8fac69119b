"""Streams JSON that is not one value per line: an array, or a sequence of values over several lines each."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from rerank_core.errors import InputError
from rerank_core.records.text.decoding import MAX_RECORD_CHARS

__all__ = ["json_error_reason", "json_values"]

_SPACE = re.compile(r"[ \t\n\r]*")
# A parse error this close to the end of the text read so far may only mean that more text is needed.
_ERROR_MARGIN = 16
_VALUE_ENDS = frozenset(" \t\n\r,]")


def json_values(pieces: Iterable[str], name: str, decoder: json.JSONDecoder) -> Iterator[tuple[Any, str]]:
    """Yield ``(value, text of the value)`` for each item of an array or each value of a sequence.

    Holds one item in memory at a time.

    Raises:
        InputError: the text is not JSON (with line and column), or an item is longer than `MAX_RECORD_CHARS`.
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
            separator = reader.peek()
            if separator not in (",", "]"):
                raise reader.error("Expecting ',' delimiter" if separator else "the array is not closed", reader.at)
            reader.skip()
            if separator == "]":
                break
    if reader.peek():
        raise reader.error("text follows after the end of the array", reader.at)


def json_error_reason(error: Exception) -> str:
    """The reason of a JSON parser's error, without advice that is meant for Python programmers."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return "a number has too many digits" if "integer string conversion" in str(error) else str(error)


class _Reader:
    """Parses values from text that arrives in pieces, and keeps track of line and column."""

    def __init__(self, pieces: Iterable[str], name: str, decoder: json.JSONDecoder) -> None:
        self._pieces, self._name, self._decoder = iter(pieces), name, decoder
        self.text, self.at, self._line, self._column, self._ended = "", 0, 1, 1, False

    def peek(self) -> str:
        """Move to the next character that is not white space and return it; an empty string at the end."""
        while True:
            match = _SPACE.match(self.text, self.at)
            self.at = match.end() if match else self.at
            if self.at < len(self.text):
                return self.text[self.at]
            if not self._more():
                return ""

    def skip(self) -> None:
        """Move past one character."""
        self.at += 1

    def value(self) -> tuple[Any, str]:
        """Read the next value; returns it with its text."""
        self.peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self.text, self.at)
            except json.JSONDecodeError as error:
                # The end of an unterminated string may be in text that is not read yet.
                certain = not error.msg.startswith("Unterminated string") and error.pos < len(self.text) - _ERROR_MARGIN
                if self._ended or certain:
                    raise self.error(error.msg, error.pos) from error
            except (ValueError, RecursionError) as error:
                raise self.error(json_error_reason(error), self.at) from error
            else:
                # Further digits of a number may be in text that is not read yet.
                if self._ended or end < len(self.text) - _ERROR_MARGIN or self.text[end : end + 1] in _VALUE_ENDS:
                    source = self.text[self.at : end]
                    self.at = end
                    return value, source
            if len(self.text) - self.at > MAX_RECORD_CHARS:
                raise self.error(f"the item is longer than {MAX_RECORD_CHARS:,} characters", self.at)
            self._more()

    def error(self, reason: str, at: int) -> InputError:
        """An InputError with the line and column of a position."""
        line, column = self._line_and_column(at)
        snippet = self.text[at : at + 60]
        return InputError(f"{self._name}:{line}: not JSON: {reason} at column {column}: {snippet!r}")

    def _line_and_column(self, at: int) -> tuple[int, int]:
        breaks = self.text.count("\n", 0, at)
        column = at - self.text.rfind("\n", 0, at) if breaks else self._column + at
        return self._line + breaks, column

    def _more(self) -> bool:
        """Read at least as many characters as are unparsed, so that the time to parse an item grows linearly.

        Returns:
            whether any text was read.
        """
        unparsed = self.text[self.at :]
        self._line, self._column = self._line_and_column(self.at)
        pieces, wanted, size = [unparsed], max(len(unparsed), 1), 0
        while size < wanted:
            piece = next(self._pieces, None)
            if piece is None:
                self._ended = True
                break
            pieces.append(piece)
            size += len(piece)
        self.text, self.at = "".join(pieces), 0
        return size > 0
