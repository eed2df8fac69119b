"""The rows of benchmarks/results/vector_training.jsonl: one for each training, and for each measurement of a model.

A measurement has ``run``, ``seed``, ``share`` (of the start's weights), ``width`` (null for the model's own), ``set``,
``how`` (``candidates`` or ``search``), ``means``, and ``ndcg``: nDCG@10 of each query in ten-thousandths, in the order
of the set. The runs ``bm25`` and ``untouched START`` are the baselines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parts.run import append, read

__all__ = ["Key", "Results", "measurement"]


@dataclass(frozen=True)
class Key:
    """What was measured: a model of a run on a set."""

    run: str
    set: str
    seed: int | None = None
    share: float | None = None
    width: int | None = None


class Results:
    """The rows of a file, to which rows are added one by one."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.rows: list[dict[str, Any]] = read(file)

    def measured(self, key: Key) -> bool:
        """Whether there is a row of it."""
        return any(
            row.get("set") == key.set and all(row.get(name) == value for name, value in vars(key).items())
            for row in self.rows
        )

    def add(self, row: dict[str, Any]) -> None:
        """Add a row to the end of the file."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        append(self.file, row)
        self.rows.append(row)


def measurement(key: Key, how: str, means: Mapping[str, float], ndcg: Sequence[float], **more: Any) -> dict[str, Any]:
    """A row."""
    rounded = {name: round(value, 4) for name, value in means.items()}
    return {**vars(key), "how": how, "means": rounded, "ndcg": [round(value * 10_000) for value in ndcg], **more}
