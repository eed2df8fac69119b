"""Records data, start model and library versions in the folder of a run; resuming compares them."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rerank_core import ModelSpec
from rerank_core.records.training_row import TrainingRow
from rerank_core.spec.untrusted_files import sha256_of
from rerank_trainers.atomic_files import write_atomically
from rerank_trainers.config.schema import DataConfig
from rerank_trainers.data.row_store import RowStore
from rerank_trainers.data.teacher_vectors import TeacherVectors
from rerank_trainers.evaluation.dev_data import DevData

__all__ = ["data_facts", "environment", "read_record", "record", "start_facts"]

_PACKAGES = ("rerank-core", "rerank-trainers", "torch", "transformers", "peft")
# Suffixes of the files in a model's folder that decide what is trained.
_READ = frozenset({".safetensors", ".json", ".txt", ".model", ".jinja"})


def environment() -> dict[str, str]:
    """Versions of Python and of the installed packages that affect training."""
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def data_facts(rows: Sequence[TrainingRow], dev: Sequence[TrainingRow] | None, config: DataConfig) -> dict[str, Any]:
    """Facts of the data: rows of each source, SHA-256 of the files, and SHA-256 of the rows in order (these decide the
    steps); digests of a teacher's vectors."""
    facts: dict[str, Any] = {
        name: {
            "sources": store.source_counts if isinstance(store, RowStore | DevData) else {},
            "sha256": store.fingerprint() if isinstance(store, RowStore | DevData) else None,
            "rows": len(store),
            "rows_sha256": _digest(store),
        }
        for name, store in (("train", rows), ("eval", dev))
        if store is not None
    }
    if config.same_source:
        # Steps depend on the sources of rows.
        facts["train"]["source_of_rows"] = hashlib.sha256(json.dumps([row.source for row in rows]).encode()).hexdigest()
    if config.teacher_vectors:
        facts["vectors"] = TeacherVectors(config.teacher_vectors).fingerprint()
    return facts


def _digest(rows: Sequence[TrainingRow]) -> str:
    """SHA-256 of the rows in order and of the weights of their files; ids count, because documents are drawn by
    them."""
    state = hashlib.sha256()
    for row in rows:
        parts = (row.id, row.query, row.docs, row.labels, row.scores, row.instruction)
        # A part of its own, so that the digest of rows without prompts stays that of earlier runs.
        more = () if row.prompts is None else (row.prompts,)
        state.update(json.dumps((*parts, *more)).encode() + b"\n")
    if isinstance(rows, RowStore) and any(weight != 1 for weight in rows.weights):
        state.update(json.dumps([rows.weights, rows.file_numbers().tolist()]).encode())
    if isinstance(rows, DevData) and rows.named:
        state.update(json.dumps(rows.layout()).encode())
    return state.hexdigest()


def start_facts(spec: ModelSpec) -> dict[str, Any]:
    """Facts of the start: SHA-256 of the model's files, template and head, versions of the libraries."""
    layout = (dataclasses.asdict(spec.template), None if spec.head is None else dataclasses.asdict(spec.head))
    folder = Path(spec.checkpoint)
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.suffix in _READ)
    return {
        "files": {path.name: sha256_of(path) for path in files},
        "layout": json.loads(json.dumps(layout)),
        "versions": environment(),
    }


def record(out: str | Path, what: str, facts: dict[str, Any]) -> None:
    """Write the facts of ``data`` or ``start`` into the folder of a run; the model card repeats them.

    Raises:
        InputError: the disk is full, or the folder cannot be written to.
    """
    write_atomically(Path(out) / f"{what}.json", json.dumps(facts, indent=2, ensure_ascii=False) + "\n")


def read_record(out: str | Path, what: str) -> dict[str, Any] | None:
    """The recorded ``config``, ``data`` or ``start`` of a run; None if missing or unreadable."""
    try:
        content = json.loads((Path(out) / f"{what}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
