"""Engines take turns, an interrupted run continues, and a cell is measured from end to end in a process of its own."""

from __future__ import annotations

import json
import os
import resource
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from helpers.scripts import module_of
from rerank_core.testing import tiny_cross_encoder


class Engine:
    """Answers with the number of its questions."""

    def __init__(self, log: list[str], name: str) -> None:
        self.log, self.name = log, name
        log.append(f"{name} starts")

    def ask(self, file: Path, *, warm_up: bool = False) -> dict[str, Any]:
        self.log.append(f"{name_of(file)} {self.name}{' warms up' if warm_up else ''}")
        if len(self.log) > 8 and self.name == "b":
            raise KeyboardInterrupt
        return {"asked": self.name}

    def close(self) -> None:
        self.log.append(f"{self.name} ends")


def name_of(file: Path) -> str:
    return file.stem


@pytest.fixture
def turns(root: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(root / "benchmarks"))
    return module_of(root / "benchmarks" / "parts" / "turns.py")


def test_an_interrupted_run_continues(turns: ModuleType, tmp_path: Path) -> None:
    """Engines take turns; after an interruption only what is missing is asked for, of processes that are new."""

    def run(log: list[str]) -> list[tuple[int, str, str]]:
        engines = {name: lambda name=name: Engine(log, name) for name in ("a", "b", "c")}
        files = dict.fromkeys(engines, Path("work.json"))
        measurements = turns.Measurements(tmp_path, "test")
        asked = turns.interleaved(engines, files, 2, cell="x/y", measurements=measurements, once=("c",))
        return [(number, name, answer["asked"]) for number, name, answer in asked]

    first: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        run(first)
    assert [line for line in first if "ends" in line] == ["a ends", "b ends", "c ends"]
    second: list[str] = []
    assert run(second) == [(0, "a", "a"), (0, "b", "b"), (0, "c", "c"), (1, "a", "a"), (1, "b", "b")]
    assert second == ["b starts", "work b warms up", "work b", "b ends"]


def test_times_of_other_code_are_not_continued(turns: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "test-state.jsonl"
    file.write_text(json.dumps({"cell": "x/y", "seconds": 1.0, "code": "other"}) + "\n", encoding="utf-8")
    measurements = turns.Measurements(tmp_path, "test")
    measurements.add({"cell": "x/y", "seconds": 2.0})
    assert [entry["seconds"] for entry in measurements.of("x/y")] == [2.0]
    assert turns.Measurements(tmp_path, "test", fresh=True).all() == []


def test_the_busy_process_computes_and_ends(root: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    with module_of(root / "benchmarks" / "parts" / "busy.py").busy_process() as number:
        time.sleep(1)
        os.kill(number, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before > 0.1


def test_a_cell_is_measured_from_end_to_end(turns: ModuleType, root: Path, tmp_path: Path) -> None:
    """Our engine in a process of its own: a small request alone and beside a busy process, then loading."""
    module = module_of(root / "benchmarks" / "parts" / "cell.py")
    folder = tmp_path / "data" / "en_trecdl" / "bm25"
    folder.mkdir(parents=True)
    hits = [{"content": text} for text in ("a panda eats bamboo", "it rains", "the bear")]
    (folder / "dl19.retrieve_results_top100.json").write_text(json.dumps([{"query": "a panda", "hits": hits}]))
    directory = tiny_cross_encoder(tmp_path / "model", "bert", std=0.3)
    measurements = turns.Measurements(tmp_path, "test")
    running = module.Running(directory)
    for cell in (
        module.Cell("x", "dl19-10", ["ours"], ["ours"], rounds=1),
        module.Cell("x", "load", ["ours"], rounds=1),
    ):
        module.run_cell(cell, running, tmp_path, tmp_path / "data", measurements)
    running.close()
    request, load = measurements.all()
    assert len(set(request["scores"])) == 3
    assert 0 < request["seconds"] < load["seconds"]
    assert request["busy"] > 0
    assert load["first"] > 0
    assert load["scores"] == pytest.approx(request["scores"][:1], abs=1e-5)
    assert load["peak"] > 2**27
