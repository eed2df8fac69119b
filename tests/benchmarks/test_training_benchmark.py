"""The timings of training: what is timed trains, the clock counts its steps, and the table is made of the results."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from helpers.scripts import module_of
from rerank_core.testing import tiny_cross_encoder

GROUPS = [
    (f"what does a {animal} eat?", [f"a {animal} eats {food}", "it rains", f"{food} grows in the mountains of China"])
    for animal, food in (("panda", "bamboo"), ("bear", "fish"), ("bird", "worms"), ("cat", "mice"))
]
WORK = {"groups": GROUPS, "batch": 2, "max_length": 64, "device": "cpu", "precision": "float32"}


def test_steps_are_the_file_in_order(engines: ModuleType, directory: str, tmp_path: Path) -> None:
    """Every engine sees the same rows in the same steps, epoch after epoch."""
    trainer = engines.ENGINES["ours"](directory, WORK, engines.arguments_of(tmp_path / "run", WORK, max_steps=9))
    loader = trainer.get_train_dataloader()
    for epoch in (0, 1):
        loader.set_epoch(epoch)
        steps = [sorted(id_ for part in step["passes"] for id_ in part.ids) for step in loader]
        assert steps == [["0", "1"], ["2", "3"]]


@pytest.fixture
def engines(root: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(root / "benchmarks"))
    return module_of(root / "benchmarks" / "engines" / "training_engines.py")


@pytest.fixture
def directory(tmp_path: Path) -> str:
    """A tiny checkpoint, and beside it the same one without dropout."""
    for name in ("model", "model-still"):
        folder = tiny_cross_encoder(tmp_path / name, "bert", std=0.1)
        if name == "model-still":
            file = folder / "config.json"
            none = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
            file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), **none}), encoding="utf-8")
    return str(tmp_path / "model")


def test_packed_and_padded_rows_take_the_same_steps(engines: ModuleType, directory: str, tmp_path: Path) -> None:
    """The losses of two steps, the second of weights that a gradient has moved, are equal and not constant."""
    packed, padded = (
        engines.losses_of(engines.ENGINES[name], directory, WORK, tmp_path / name) for name in ("ours", "ours-padded")
    )

    assert packed == pytest.approx(padded, abs=1e-5)
    assert abs(packed[0] - packed[1]) > 1e-4


def test_the_clock_counts_steps(engines: ModuleType, directory: str, tmp_path: Path) -> None:
    """It answers after the warm-up and after each round of steps, and training ends with the questions."""
    arguments = engines.arguments_of(tmp_path / "run", WORK, max_steps=10**6)
    trainer = engines.ENGINES["ours"](directory, WORK, arguments)
    answers: list[tuple[int, float]] = []
    engines.timed(trainer, 2, iter(["go\n"]), lambda seconds: answers.append((trainer.state.global_step, seconds)))

    assert [step for step, _ in answers] == [engines.WARM_UP, engines.WARM_UP + 2]
    assert all(seconds > 0 for _, seconds in answers)
    assert trainer.state.global_step == engines.WARM_UP + 2


def test_an_engine_with_other_losses_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures of a trainer that does not learn what ours does would say nothing."""
    monkeypatch.syspath_prepend(str(root / "benchmarks"))
    drift = module_of(root / "benchmarks" / "training.py")._checked_drift
    losses = {"ours": [2.0, 1.9], "near": [2.0, 1.90001], "far": [2.0, 2.0]}

    assert drift(losses, "near", lambda _: None) == pytest.approx(5e-6, rel=0.1)
    with pytest.raises(RuntimeError, match="first losses"):
        drift(losses, "far", lambda _: None)


def test_the_table_of_training(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(root / "tools"))
    training: Any = module_of(root / "tools" / "tables" / "speed.py").training
    engines = {"ours": {"tokens_per_second": 2100}, "flagembedding": {"ratio": 3.44}, "ours-padded": {"error": "no"}}
    cell = {"shape": "6x384", "workload": "wikiqa", "engines": engines}
    file = tmp_path / "training.json"
    file.write_text(json.dumps({"cells": [cell]}), encoding="utf-8")

    assert training(file).splitlines()[-1].split("|")[2:-1] == [" 2,100 ", " 3.4 ", "  ", "  ", "  "]
    assert "WikiQA" in training(file, chinese=True)
    assert training(tmp_path / "none.json") == ""
