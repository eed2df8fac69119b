"""Records that cannot be read where they lie, written once as plain lines into a temporary file."""

from __future__ import annotations

import os
import tempfile
import weakref
from array import array
from contextlib import suppress
from pathlib import Path

from rerank_core.errors import InputError
from rerank_core.records.record_files import FileReader

__all__ = ["Spool"]


class Spool:
    """The temporary file, which is removed with this object; copies in other processes only read it.

    Attributes:
        offsets: where each record begins in it.
        lines: the line of each in the file that was read, or the number of the item.

    Raises:
        InputError: the file cannot be read, or there is no room for what it unpacks to.
    """

    def __init__(self, reading: FileReader) -> None:
        self.offsets, self.lines = array("Q"), array("I")
        position = 0
        try:
            handle, path = tempfile.mkstemp(prefix="rerank-rows-", suffix=".jsonl")
            self._remove = weakref.finalize(self, _removed, path, os.getpid())
            self.path = Path(path)
            with open(handle, "wb") as file:
                for number, text in reading.entries():
                    # Bytes that are no UTF-8 are written as they were, for their line to be named.
                    data = text.encode("utf-8", "surrogateescape") + b"\n"
                    self.offsets.append(position)
                    self.lines.append(number)
                    position += file.write(data)
        except OSError as error:
            raise InputError(
                f"{reading.name!r} is written to {tempfile.gettempdir()!r} as plain lines, and that failed: "
                f"{error.strerror or error}; set TMPDIR to a folder with more room, or write the file as plain JSONL"
            ) from error

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "offsets": array("Q"), "lines": array("I")}


def _removed(path: str, owner: int) -> None:
    # A child that was forked has the object too, and ends earlier.
    if os.getpid() == owner:
        with suppress(OSError):
            os.unlink(path)
