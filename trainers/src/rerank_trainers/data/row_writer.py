"""Writes rows in the canonical format: to ``OUT.partial`` row by row, renamed to ``OUT`` when complete."""

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
    """The canonical JSON object of a row, without the fields that are None.

    >>> row_to_json(TrainingRow("q", ("a", "b"), labels=(1.0, 0.0), id="7"))
    {'query': 'q', 'docs': ['a', 'b'], 'labels': [1, 0], 'id': '7'}
    """
    data: dict[str, Any] = {"query": row.query, "docs": list(row.docs)}
    if row.labels is not None:
        data["labels"] = [int(label) if float(label).is_integer() else label for label in row.labels]
    if row.scores is not None:
        data["scores"] = list(row.scores)
    for name in ("instruction", "source", "id", "prompts"):
        value = getattr(row, name)
        if value is not None:
            data[name] = list(value) if name == "prompts" else value
    return data


class RowWriter:
    """Writes rows as JSON Lines, and can continue an interrupted run.

    Use it as a context manager. Rows are written to ``OUT.partial``. If the block ends without an error, the file is
    renamed to ``OUT``; otherwise it stays for ``resume``. ``OUT.partial.json`` holds digests of the settings.

    Attributes:
        done: number of rows that an interrupted run had written.
        written: number of rows in the file, including ``done``.

    Args:
        settings: everything the output depends on, as JSON values; only equal settings continue a partial file.
        rows: the input rows, one per output row, against which the last row of a partial file is checked.
        resume: continue the partial file, if there is one.
        overwrite: replace existing files.

    Raises:
        InputError: the file exists, or the partial file was made from other rows or settings.
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
        self._settings_path = self.out.with_name(self.out.name + ".partial.json")
        self._settings = {name: _digest(value) for name, value in sorted(settings.items())}
        if resume and overwrite:
            raise InputError("resume continues the existing file and overwrite replaces it; give one of them")
        if self.out.exists() and not overwrite:
            raise InputError(f"{str(self.out)!r} exists already; name another file, or overwrite it")
        if self.partial.exists() and not (resume or overwrite):
            raise InputError(
                f"{str(self.partial)!r} exists from an interrupted run; resume continues it, overwrite starts again"
            )
        self.done = self._count_done(rows) if resume and self.partial.exists() else 0
        self.written = self.done
        self._file: IO[bytes] | None = None

    def _count_done(self, rows: Sequence[TrainingRow]) -> int:
        """Number of rows in the partial file, after checking its settings and last row; a cut last line is removed."""
        try:
            settings = json.loads(self._settings_path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(
                f"{str(self._settings_path)!r}, the settings of {self.partial.name!r}, cannot be read ({error}); "
                "overwrite starts again"
            ) from error
        different = sorted(
            name for name in {*settings, *self._settings} if settings.get(name) != self._settings.get(name)
        )
        if different:
            raise InputError(
                f"{str(self.partial)!r} was made with other values of {', '.join(different)}; resume with the same "
                "values, or overwrite it"
            )
        count, last, size = 0, b"", 0
        with self.partial.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    count, last, size = count + 1, line, size + len(line)
        # A crash of the machine may leave an incomplete last line.
        os.truncate(self.partial, size)
        if count and not (count <= len(rows) and _is_row(last, rows[count - 1])):
            raise InputError(
                f"row {count} of {str(self.partial)!r} is not made from row {count} of the input: "
                f"{short(last.decode())}; resume with the files it was made from, or overwrite it"
            )
        return count

    def __enter__(self) -> RowWriter:
        try:
            self.out.parent.mkdir(parents=True, exist_ok=True)
            self._settings_path.write_text(json.dumps(self._settings, indent=1), encoding="utf-8")
            self._file = self.partial.open("ab" if self.done else "wb")
        except OSError as error:
            raise self._write_error(error) from error
        return self

    def _write_error(self, error: OSError) -> InputError:
        return InputError(
            f"{str(self.partial)!r} cannot be written: {error.strerror or error}; the rows written so far are "
            "kept. Free space, and continue with resume"
        )

    def write(self, row: TrainingRow) -> None:
        """Append a row and flush it to the operating system.

        Raises:
            InputError: a score or label is not finite, which JSON cannot represent, or the file cannot be written.
        """
        assert self._file is not None, "RowWriter writes inside its with block"
        try:
            text = json.dumps(row_to_json(row), ensure_ascii=False, allow_nan=False)
        except ValueError as error:
            raise InputError(f"row {row.id!r} has a number that is not finite: {error}") from error
        # A lone surrogate cannot be encoded as UTF-8 and is written as a JSON escape.
        try:
            self._file.write(text.encode("utf-8", "backslashreplace") + b"\n")
            self._file.flush()
        except OSError as error:
            raise self._write_error(error) from error
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
                raise self._write_error(full) from full
            return  # the error that ended the block is the one to report
        if kind is not None and not self.written:
            self.partial.unlink()
        if kind is None or not self.written:
            self._settings_path.unlink(missing_ok=True)


def _digest(value: object) -> str:
    """A digest of a setting; the value itself is not written to disk, since it may be the key of an API."""
    text = json.dumps(value, ensure_ascii=True, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _is_row(line: bytes, row: TrainingRow) -> bool:
    try:
        record = json.loads(line)
    except ValueError:
        return False
    return isinstance(record, dict) and record.get("query") == row.query and record.get("id") == row.id
