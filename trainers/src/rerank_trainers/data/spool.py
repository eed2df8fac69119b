"""A temporary file of plain lines, for records that cannot be read in place (compressed files, arrays, CSV)."""

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
    """The temporary file; it is deleted when this object is. Copies in other processes only read it.

    Attributes:
        offsets: the byte offset of each record in the temporary file.
        lines: the line number of each record in the original file, or the number of the item of an array.

    Raises:
        InputError: the file cannot be read, or the disk has no room for its uncompressed records.
    """

    def __init__(self, reading: FileReader) -> None:
        self.offsets, self.lines = array("Q"), array("I")
        position = 0
        try:
            handle, path = tempfile.mkstemp(prefix="rerank-rows-", suffix=".jsonl")
            self._remove = weakref.finalize(self, _delete, path, os.getpid())
            self.path = Path(path)
            with open(handle, "wb") as file:
                for number, text in reading.entries():
                    # Invalid UTF-8 is written unchanged, so that reading the record reports its line.
                    data = text.encode("utf-8", "surrogateescape") + b"\n"
                    self.offsets.append(position)
                    self.lines.append(number)
                    position += file.write(data)
        except OSError as error:
            raise InputError(
                f"{reading.name!r} could not be written to {tempfile.gettempdir()!r} as plain lines: "
                f"{error.strerror or error}; set TMPDIR to a folder with more room, or write the file as plain JSONL"
            ) from error

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "offsets": array("Q"), "lines": array("I")}


def _delete(path: str, owner: int) -> None:
    # A forked child process has a copy of the object and must not delete the file.
    if os.getpid() == owner:
        with suppress(OSError):
            os.unlink(path)
