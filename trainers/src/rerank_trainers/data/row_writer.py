"""Canonical rows into a file: progressively into ``OUT.partial``, under its own name only when it is complete."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from rerank_core.errors import InputError, short
from rerank_core.records.training_row import TrainingRow

__all__ = ["RowWriter", "row_to_json"]


def row_to_json(row: TrainingRow) -> dict[str, Any]:
    """The canonical JSON object of a row; what the row does not have is left out.

    >>> row_to_json(TrainingRow("q", ("a", "b"), labels=(1.0, 0.0), id="7"))
    {'query': 'q', 'docs': ['a', 'b'], 'labels': [1, 0], 'id': '7'}
    """
    data: dict[str, Any] = {"query": row.query, "docs": list(row.docs)}
    if row.labels is not None:
        data["labels"] = [int(label) if float(label).is_integer() else label for label in row.labels]
    if row.scores is not None:
        data["scores"] = list(row.scores)
    for name in ("instruction", "source", "id"):
        value = getattr(row, name)
        if value is not None:
            data[name] = value
    return data


class RowWriter:
    """Writes rows, one JSON object a line, and survives being interrupted.

    A context manager. Rows go to ``OUT.partial``, complete lines only; leaving the block without an error renames it
    to ``OUT``, leaving it with one keeps what there is for ``resume``. ``OUT.partial.json`` has digests of
    what made it.

    Attributes:
        done: rows that an interrupted run had written.
        written: rows in the file, those included.

    Args:
        settings: everything the rows depend on, plain data: a run with others cannot go on with the file.
        rows: what the output is made from, row by row, to check that the file ends where they say.
        resume: go on with the partial file, if there is one.
        overwrite: replace whatever is there.

    Raises:
        InputError: a file in the way, or a partial file that other rows or settings made.
    """

    def __init__(
        self,
        out: str | os.PathLike[str],
        *,
        settings: Mapping[str, object],
        rows: Sequence[TrainingRow],
        resume: bool = False,
        overwrite: bool = False,
    ) -> None:
        self.out = Path(out)
        self.partial = self.out.with_name(self.out.name + ".partial")
        self._made_by = self.out.with_name(self.out.name + ".partial.json")
        self._settings = {name: _digest(value) for name, value in sorted(settings.items())}
        if resume and overwrite:
            raise InputError("resume goes on with what is there and overwrite replaces it; give one of them")
        if self.out.exists() and not overwrite:
            raise InputError(f"{str(self.out)!r} is there already; name another file, or overwrite it")
        if self.partial.exists() and not (resume or overwrite):
            raise InputError(
                f"{str(self.partial)!r} is there from an interrupted run; resume goes on with it, overwrite begins anew"
            )
        self.done = self._found(rows) if resume and self.partial.exists() else 0
        self.written = self.done
        self._file: IO[bytes] | None = None

    def _found(self, rows: Sequence[TrainingRow]) -> int:
        """Rows of the partial file, whose settings and last row must be ours; a line that was cut off is removed."""
        try:
            made_by = json.loads(self._made_by.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(
                f"{str(self._made_by)!r}, which says what {self.partial.name!r} was made by, cannot be read ({error}); "
                "overwrite begins anew"
            ) from error
        other = sorted(name for name in {*made_by, *self._settings} if made_by.get(name) != self._settings.get(name))
        if other:
            raise InputError(
                f"{str(self.partial)!r} was made with other {', '.join(other)}; resume with what it was made with, "
                "or overwrite it"
            )
        count, last, size = 0, b"", 0
        with self.partial.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    count, last, size = count + 1, line, size + len(line)
        # Only a killed machine leaves part of a line behind, and half a row is none.
        os.truncate(self.partial, size)
        if count and not (count <= len(rows) and _same(last, rows[count - 1])):
            raise InputError(
                f"row {count} of {str(self.partial)!r} is not made from row {count} of the input: "
                f"{short(last.decode())}; resume with the files it was made from, or overwrite it"
            )
        return count

    def __enter__(self) -> RowWriter:
        try:
            self.out.parent.mkdir(parents=True, exist_ok=True)
            self._made_by.write_text(json.dumps(self._settings, indent=1), encoding="utf-8")
            self._file = self.partial.open("ab" if self.done else "wb")
        except OSError as error:
            raise self._unwritten(error) from error
        return self

    def _unwritten(self, error: OSError) -> InputError:
        return InputError(
            f"{str(self.partial)!r} cannot be written: {error.strerror or error}; what is there stays. Free space, and "
            "go on with resume"
        )

    def write(self, row: TrainingRow) -> None:
        """Append a row; it is the operating system's when this returns.

        Raises:
            InputError: a score or label that is not finite, which JSON cannot hold.
        """
        assert self._file is not None, "RowWriter writes inside its with block"
        try:
            text = json.dumps(row_to_json(row), ensure_ascii=False, allow_nan=False)
        except ValueError as error:
            raise InputError(f"row {row.id!r} has a number that is not finite: {error}") from error
        # A lone surrogate, which UTF-8 cannot hold, becomes its JSON escape.
        try:
            self._file.write(text.encode("utf-8", "backslashreplace") + b"\n")
            self._file.flush()
        except OSError as error:
            raise self._unwritten(error) from error
        self.written += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._file is not None
        try:
            with self._file:
                self._file.flush()
                os.fsync(self._file.fileno())
            if kind is None:
                self.partial.replace(self.out)
        except OSError as full:
            if kind is None:
                raise self._unwritten(full) from full
            return  # what ended the block is what is said; the partial file ends where it ends
        if kind is not None and not self.written:
            self.partial.unlink()
        if kind is None or not self.written:
            self._made_by.unlink(missing_ok=True)


def _digest(value: object) -> str:
    """A setting may be a secret of an endpoint, so that only its digest is put on disk."""
    text = json.dumps(value, ensure_ascii=True, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _same(line: bytes, row: TrainingRow) -> bool:
    try:
        found = json.loads(line)
    except ValueError:
        return False
    return isinstance(found, dict) and found.get("query") == row.query and found.get("id") == row.id
