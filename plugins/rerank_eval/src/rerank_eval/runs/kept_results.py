"""`KeptResults`: rankings of one model on disk, so that no query is computed twice.

One file of JSON lines a model, appended to and never rewritten. A line about a process is followed by the queries that
it ranked. A query is found by its content: the texts and their order, not by its id, its set or its labels. So a query
that is in two sets, or whose labels change, is ranked once.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from rerank_core import InputError
from rerank_eval.runs.model_process import Loaded
from rerank_eval.runs.model_run import QueryRun, RunFacts
from rerank_eval.sets.judged_set import JudgedQuery

__all__ = ["KeptResults", "content_of"]

_SCHEMA = 1


def content_of(query: JudgedQuery) -> str:
    """A digest of what a model sees of a query: its text, the instruction and the candidates' texts in their order."""
    parts = [query.text, query.instruction, *(candidate.text for candidate in query.candidates)]
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()


class KeptResults:
    """The results of a model with its options, on this machine and with these versions.

    A failed query is not kept, so that the next call tries it again. A torn line, which a killed process leaves behind,
    is passed over, and its query computed again.

    The results of a model without a fingerprint are kept in memory alone.

    Attributes:
        facts: of the process that ranked last, with the peak of all; None where nothing is kept.

    Args:
        folder: of all results; made where it is missing.
        label: the model's name for the file; the file is found by the rest of its name.

    Raises:
        InputError: the folder cannot be written to.
    """

    def __init__(self, folder: Path, label: str, loaded: Loaded) -> None:
        self._loaded = loaded
        self._stream: IO[bytes] | None = None
        self._queries: dict[str, QueryRun] = {}
        self.facts: RunFacts | None = None
        self._path: Path | None = None
        if not loaded.fingerprint:
            return
        name = re.sub(r"[^\w.-]+", "-", label).strip("-.")[-60:] or "model"
        key = _key(loaded)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._path = next(iter(sorted(folder.glob(f"*--{key}.jsonl"))), folder / f"{name}--{key}.jsonl")
            if self._path.exists():
                self._read(self._path)
        except OSError as error:
            raise InputError(f"the results cannot be kept in {str(folder)!r}: {error}; name another folder") from error

    def __len__(self) -> int:
        return len(self._queries)

    def get(self, query: JudgedQuery) -> QueryRun | None:
        """The kept ranking of a query; None where there is none."""
        found = self._queries.get(content_of(query))
        return None if found is None else replace(found, id=query.id)

    def add(self, query: JudgedQuery, run: QueryRun, peak_bytes: int | None) -> None:
        """Keep a ranking; it outlives this process when this returns.

        Raises:
            InputError: it cannot be written, such as on a full disk.
        """
        if run.error is not None:
            return
        content = content_of(query)
        self._queries[content] = run
        if self._path is None:
            return
        try:
            if self._stream is None:
                self._stream = self._opened(self._path)
            self._write({"content": content, "run": run.to_json(), "peak_bytes": peak_bytes})
        except OSError as error:
            raise InputError(f"a result cannot be written to {str(self._path)!r}: {error}") from error

    def _opened(self, path: Path) -> IO[bytes]:
        stream = path.open("ab")
        self._stream = stream
        if stream.tell() and not _ends_in_newline(path):
            stream.write(b"\n")  # after a torn line
        facts = self._loaded.facts.to_json()
        known = {"fingerprint": self._loaded.fingerprint, "options": dict(self._loaded.options), "facts": facts}
        self._write({"schema_version": _SCHEMA, "process": known})
        return stream

    def _write(self, data: Mapping[str, Any]) -> None:
        assert self._stream is not None
        self._stream.write(json.dumps(data).encode() + b"\n")
        self._stream.flush()

    def _read(self, path: Path) -> None:
        with path.open("rb") as stream:
            for line in stream:
                with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):  # a torn line
                    self._take(json.loads(line))

    def _take(self, line: Mapping[str, Any]) -> None:
        if "process" in line:
            facts = RunFacts.from_json(line["process"]["facts"])
            before = self.facts.peak_bytes if self.facts else None
            self.facts = replace(facts, peak_bytes=max(filter(None, (facts.peak_bytes, before)), default=None))
            return
        run = QueryRun.from_json(line["run"])
        self._queries.setdefault(line["content"], run)
        if self.facts is not None and line["peak_bytes"]:
            self.facts = replace(self.facts, peak_bytes=max(self.facts.peak_bytes or 0, line["peak_bytes"]))

    def close(self) -> None:
        """Close the file."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None


def _key(loaded: Loaded) -> str:
    """A digest of everything that a ranking and its time depend on beside the query."""
    parts = [loaded.fingerprint, dict(loaded.options), loaded.facts.machine, dict(loaded.facts.versions), _SCHEMA]
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=10).hexdigest()


def _ends_in_newline(path: Path) -> bool:
    with path.open("rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) == b"\n"
