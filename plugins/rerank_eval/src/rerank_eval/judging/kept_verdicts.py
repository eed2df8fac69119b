"""`KeptVerdicts`: verdicts on disk by the content of their pair, so that none is asked for twice."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rerank_core import InputError
from rerank_eval.judging.judge import Pair, Verdict

__all__ = ["KeptVerdicts"]


class KeptVerdicts:
    """One SQLite file for all judges. A verdict is on disk when `add` returns. Failed calls are not kept.

    Raises:
        InputError: the file cannot be written, or is no such file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._errors():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(path, isolation_level=None)
            self._database.execute("pragma journal_mode = wal")
            self._database.execute(
                "create table if not exists verdicts (pair blob primary key, value real, malformed text, shortened int)"
            )

    def get(self, judge: str, pair: Pair) -> Verdict | None:
        """The kept verdict of a judge by its identity; None where there is none."""
        with self._errors():
            row = self._database.execute(
                "select value, malformed, shortened from verdicts where pair = ?", [_key(judge, pair)]
            ).fetchone()
        return None if row is None else Verdict(row[0], row[1], None, bool(row[2]))

    def add(self, judge: str, pair: Pair, verdict: Verdict) -> None:
        """Keep a verdict, unless the call failed."""
        if verdict.error is None:
            values = [_key(judge, pair), verdict.value, verdict.malformed, verdict.shortened]
            with self._errors():
                self._database.execute("insert or replace into verdicts values (?, ?, ?, ?)", values)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            raise InputError(
                f"verdicts cannot be kept in {str(self._path)!r}: {error}; free the disk, or move the file away"
            ) from error


def _key(judge: str, pair: Pair) -> bytes:
    parts = json.dumps([judge, pair.query, pair.text, pair.instruction])
    return hashlib.blake2b(parts.encode(), digest_size=16).digest()
