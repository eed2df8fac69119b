"""Two processes do the work of one: the same steps, the same weights, the same measurements."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from rerank_core.records.training_row import TrainingRow
from rerank_trainers.config.schema import Config
from rerank_trainers.loop.dataset import Steps
from rerank_trainers.loop.prepare import Run

# Each is trained by two processes at once and by one alone. 17 rows in steps of 8 leave a last step of one row, which
# keeps one process busy for nothing; a budget of 40 cuts every process's share otherwise, groups included.
SETTINGS: dict[str, tuple[str, ...]] = {
    "whole": ("train.batch_size=8", "objective=bce"),
    "cut": ("train.batch_size=8", "train.token_budget=40"),
    # In the second step one process starts with a group in parts, scored without a graph, and the other does not.
    "uneven": ("train.batch_size=8", "train.token_budget=55"),
    "recomputed": ("train.batch_size=8", "train.token_budget=40", "model.gradient_checkpointing=true"),
    "early": ("train.batch_size=8", "train.learning_rate=0", "train.epochs=9", "train.patience=1"),
}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A folder with the rows as files, and what the processes found, filled by the first test that asks."""
    return {"folder": tmp_path_factory.mktemp("distributed")}


def written(path: Path, rows: list[TrainingRow]) -> str:
    """Rows as a file."""
    path.write_text("".join(json.dumps(dataclasses.asdict(row)) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def together(folder: Path, jobs: list[dict[str, Any]], *, stop_after: str | None = None) -> None:
    """Run two processes to their end, as torchrun does.

    Args:
        stop_after: a line of the second one, after which it alone is sent SIGINT.
    """
    (folder / "jobs.json").write_text(json.dumps(jobs), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, str(Path(__file__).parents[1] / "helpers" / "one_process.py"), str(folder / "jobs.json")]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    with contextlib.ExitStack() as stack:
        started = []
        for rank in (0, 1):
            env = {**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            output = stack.enter_context((folder / f"output-{rank}").open("w"))
            process = stack.enter_context(subprocess.Popen(command, env=env, stdout=output, stderr=subprocess.STDOUT))
            stack.callback(process.kill)
            started.append(process)
        while stop_after is not None and started[1].poll() is None:
            if stop_after in (folder / "output-1").read_text().splitlines():
                started[1].send_signal(signal.SIGINT)
                break
            time.sleep(0.05)
        for rank, process in enumerate(started):
            assert process.wait(timeout=300) == 0, (folder / f"output-{rank}").read_text()


@pytest.fixture
def found(
    told: dict[str, Any], configured: Callable[..., Config], rows: Callable[..., list[TrainingRow]]
) -> dict[str, Any]:
    """What two processes made of every setting: one start for all of them."""
    folder = told["folder"]
    if "configs" not in told:
        data, dev = written(folder / "rows.jsonl", rows(17)), written(folder / "dev.jsonl", rows(9))
        told["configs"] = {name: configured(*given, f"train.out={folder / name}") for name, given in SETTINGS.items()}
        jobs = [
            {"config": dataclasses.asdict(config), "rows": data, "dev": dev, "out": str(folder / f"{name}-of-2")}
            for name, config in told["configs"].items()
        ]
        together(folder, jobs)
    return told


def results(found: dict[str, Any], name: str) -> tuple[list[dict[str, torch.Tensor]], list[dict[str, Any]]]:
    """Weights and measures of each process."""
    out = [found["folder"] / f"{name}-of-2-{rank}" for rank in (0, 1)]
    return (
        [torch.load(f"{one}.pt", weights_only=True) for one in out],
        [json.loads(Path(f"{one}.json").read_text()) for one in out],
    )


@pytest.mark.parametrize("name", ["whole", "cut", "uneven", "recomputed"])
def test_two_processes_train_as_one(
    found: dict[str, Any], prepared: Callable[..., Run], rows: Callable[..., list[TrainingRow]], name: str
) -> None:
    """After three steps, the last with fewer rows than processes, weights, losses and logs are those of one process
    with the same batch size."""
    assert [len(step) for step in Steps(17, 8, seed=42)] == [8, 8, 1]
    alone = prepared(*SETTINGS[name], rows=rows(17), dev=rows(9))
    start = {key: one.clone() for key, one in alone.model.module.state_dict().items()}
    alone.train()
    expected = alone.model.module.state_dict()
    weights, facts = results(found, name)

    assert max(float((expected[key] - start[key]).abs().max()) for key in start) > 1e-2
    for one in weights:
        assert max(float((one[key] - expected[key]).abs().max()) for key in expected) <= 1e-6
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in expected)
    history = alone.trainer.state.log_history
    assert facts[0]["losses"] == pytest.approx([one["loss"] for one in history if "loss" in one], abs=1e-5)
    assert facts[0]["spreads"] == pytest.approx(
        [one["score_spread"] for one in history if "score_spread" in one], abs=1e-5
    )


def test_two_processes_measure_as_one(
    found: dict[str, Any], prepared: Callable[..., Run], rows: Callable[..., list[TrainingRow]]
) -> None:
    """Each ranks half of the dev set, and both know all of it, query by query."""
    alone = prepared(*SETTINGS["whole"], rows=rows(17), dev=rows(9))
    alone.train()
    expected = alone.evaluate()
    assert expected is not None
    _, facts = results(found, "whole")
    for one in facts:
        assert one["values"] == pytest.approx(dict(expected.values))
        assert one["queries"] == {name: list(values) for name, values in expected.queries.items()}


def test_two_processes_stop_early_together(found: dict[str, Any]) -> None:
    """Without progress both leave the loop after the second epoch."""
    _, facts = results(found, "early")
    assert [one["steps"] for one in facts] == [6, 6]


def test_ctrl_c_in_one_process_ends_both(
    told: dict[str, Any],
    configured: Callable[..., Config],
    prepared: Callable[..., Run],
    rows: Callable[..., list[TrainingRow]],
) -> None:
    """The signal may reach one of them alone: both finish the same step, one checkpoint is written, and a run that
    goes on from it ends where an uninterrupted one does."""
    folder = told["folder"]
    data = written(folder / "all.jsonl", rows())
    config = configured("train.epochs=2", f"train.out={folder / 'interrupted'}")
    job = {"config": dataclasses.asdict(config), "rows": data, "loud": True, "out": str(folder / "interrupted-told")}
    together(folder, [job], stop_after="step 2")
    facts = [json.loads((folder / f"interrupted-told-{rank}.json").read_text()) for rank in (0, 1)]
    assert all(one["interrupted"] for one in facts)
    assert facts[0]["steps"] == facts[1]["steps"] <= 4

    second = prepared("train.epochs=2", f"train.out={config.train.out}")
    second.train(resume=True)
    whole = prepared("train.epochs=2")
    whole.train()
    for one, other in zip(second.model.module.parameters(), whole.model.module.parameters(), strict=True):
        assert float((one - other).detach().abs().max()) <= 1e-5
