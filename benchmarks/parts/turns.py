"""`Measurements`: single measurements in a file, from which an interrupted run continues."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from parts.run import QUICK, ROOT, append, read

__all__ = ["Measurements", "interleaved"]


@functools.cache
def code_digest(folder: Path = ROOT / "rerank_core") -> str:
    """A digest of the sources of rerank-core: times of other code are not continued."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


class Measurements:
    """The measurements of one benchmark, one JSON line each.

    Args:
        folder: where the file is kept.
        name: of the benchmark.
        fresh: forget the measurements of earlier runs.
    """

    def __init__(self, folder: Path, name: str, *, fresh: bool = False) -> None:
        self._file = folder / f"{name}{'-quick' if QUICK else ''}-state.jsonl"
        if fresh:
            self._file.unlink(missing_ok=True)

    def all(self) -> list[dict[str, Any]]:
        """The measurements of the present code, in the order in which they were made."""
        return [entry for entry in read(self._file) if entry["code"] == code_digest()]

    def of(self, cell: str) -> list[dict[str, Any]]:
        return [entry for entry in self.all() if entry["cell"] == cell]

    def add(self, entry: Mapping[str, Any]) -> None:
        """Store a measurement; it names its ``cell``."""
        append(self._file, {**entry, "code": code_digest()})


def interleaved(
    engines: Mapping[str, Callable[[], Any]],
    files: Mapping[str, Path],
    rounds: int,
    *,
    cell: str,
    measurements: Measurements,
    once: Collection[str] = (),
) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Ask each engine in turn in every round: yields round, engine and answer. Answers of an earlier run are not asked
    for again. Engines are started and warmed up when they are first asked, and ended at last.

    Args:
        engines: what starts each `engines.engine.Engine`, by name, in the order of a round.
        files: the file with the work of each engine.
        rounds: number of rounds.
        cell: name of the cell.
        once: engines that run only in the first round.
    """
    known = {(entry["engine"], entry["round"]): entry["answer"] for entry in measurements.of(cell)}
    running: dict[str, Any] = {}
    try:
        for number in range(rounds):
            for name, start in engines.items():
                if number and name in once:
                    continue
                answer = known.get((name, number))
                if answer is None:
                    if name not in running:
                        running[name] = start()
                        running[name].ask(files[name], warm_up=True)
                    answer = running[name].ask(files[name])
                    measurements.add({"cell": cell, "engine": name, "round": number, "answer": answer})
                yield number, name, answer
    finally:
        for engine in running.values():
            engine.close()
