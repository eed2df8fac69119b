"""`run_cell`: the engines take turns in one cell, a model shape with a workload."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from engines.engine import REQUIREMENTS, Engine
from scipy.stats import kendalltau

from parts import limit
from parts.busy import busy_process
from parts.run import drift
from parts.turns import Measurements
from parts.workloads import LAYERS, SHAPES, requests, token_count

__all__ = ["Cell", "Running", "run_cell"]

LOAD = "load"
"""The workload that times loading: each measurement is a new process, which scores one document."""


@dataclass(frozen=True)
class Cell:
    """What is measured together.

    Attributes:
        shape: of `SHAPES`.
        workload: of `requests`, or ``load``.
        engines: those that take turns; the first is ours.
        beside: those that are also measured beside a busy process, right after they were measured alone.
        rounds: number of rounds.
        limited: whether the rate of matrix products is measured in each round too.
    """

    shape: str
    workload: str
    engines: Sequence[str]
    beside: Sequence[str] = ()
    rounds: int = 5
    limited: bool = False

    @property
    def name(self) -> str:
        return f"{self.shape}/{self.workload}"


class Running:
    """The engines' processes for one shape. They are started when they are first asked, and serve several cells."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._engines: dict[str, Engine] = {}
        self._cached: set[str] = set()

    def warm(self, name: str, file: Path) -> Engine:
        """An engine that has scored before."""
        if name not in self._engines:
            self._engines[name] = self._start(name)
            self._engines[name].ask(file, warm_up=True)
            self._cached.add(name)
        return self._engines[name]

    def first_answer(self, name: str, file: Path) -> dict[str, Any]:
        """The answer of a new process whose files were read, and made where necessary, by an earlier one."""
        if name not in self._cached:
            self.warm(name, file)
        self.close()
        engine = self._start(name)
        try:
            return engine.ask(file)
        finally:
            engine.close()

    def close(self) -> None:
        """End all processes."""
        for engine in self._engines.values():
            engine.close()
        self._engines.clear()

    def _start(self, name: str) -> Engine:
        return Engine(name, self.directory, "engines/cross_encoder_engines.py", REQUIREMENTS[name])


def run_cell(cell: Cell, running: Running, folder: Path, data: Path, state: Measurements) -> None:
    """Measure what ``state`` does not have yet."""
    loads = cell.workload == LOAD
    texts = requests("dl19-1" if loads else cell.workload, data)
    file = folder / f"{cell.workload}.json"
    file.write_text(json.dumps(texts), encoding="utf-8")
    seconds: dict[str, dict[int, float]] = {}
    scores: list[float] = []
    for entry in state.of(cell.name):
        failed = "error" in entry
        times = seconds.setdefault(entry["engine"], {})
        times.update(dict.fromkeys(range(cell.rounds), math.inf) if failed else {entry["round"]: entry["seconds"]})
        if entry["engine"] == "ours" and not failed:
            scores = scores or entry["scores"]
    tokens = token_count(running.directory, texts)
    for number in range(cell.rounds):
        for name in [*(["limit"] if cell.limited else []), *cell.engines]:
            times = seconds.setdefault(name, {})
            if number in times or (number >= 3 and name in cell.engines and _slow(times, seconds["ours"])):
                continue
            entry: dict[str, Any] = {"cell": cell.name, "engine": name, "round": number, "tokens": tokens}
            if name == "limit":
                rate = limit.measure(SHAPES[cell.shape])
                entry["seconds"] = tokens * limit.flops_per_token(LAYERS, SHAPES[cell.shape]) / rate
            else:
                try:
                    entry.update(_measured(name, running, file, loads=loads, beside=name in cell.beside))
                except (RuntimeError, subprocess.CalledProcessError) as error:
                    print(f"{cell.name:20} {name}: {error}", file=sys.stderr)
                    times.update(dict.fromkeys(range(cell.rounds), math.inf))
                    state.add({**entry, "error": str(error)})
                    continue
                theirs = entry.pop("scores")
                if name == "ours":
                    scores = scores or theirs
                    entry["scores"] = theirs
                elif scores:
                    entry.update(_differences(name, scores, theirs))
            times[number] = entry["seconds"]
            state.add(entry)
            beside = f", {entry['busy']:8.3f} s beside a busy process" if "busy" in entry else ""
            print(f"{cell.name:20} round {number} {name:22} {entry['seconds']:8.3f} s{beside}", file=sys.stderr)


def _measured(name: str, running: Running, file: Path, *, loads: bool, beside: bool) -> dict[str, Any]:
    """Seconds, scores and peak memory of one engine; with ``beside`` also its seconds beside a busy process."""
    if loads:
        answer = running.first_answer(name, file)
        return {"seconds": answer["load"], **{key: answer[key] for key in ("first", "scores", "peak")}}
    engine = running.warm(name, file)
    answer = engine.ask(file)
    found = {key: answer[key] for key in ("seconds", "scores", "peak")}
    if beside:
        with busy_process():
            found["busy"] = engine.ask(file)["seconds"]
    return found


def _differences(name: str, ours: list[float], theirs: list[float]) -> dict[str, float]:
    """The largest difference from our scores in float32; for int8 also how similar the order is."""
    # BCEmbedding returns probabilities.
    same = torch.sigmoid(torch.tensor(ours)).tolist() if name == "bcembedding" else ours
    found = {"drift": drift(same, theirs)}
    if name.endswith("int8") and len(ours) >= 10:
        found["tau"] = float(kendalltau(ours, theirs).statistic)
    return found


def _slow(theirs: dict[int, float], ours: dict[int, float]) -> bool:
    return bool(theirs) and median(theirs.values()) > 3 * median(ours.values())
