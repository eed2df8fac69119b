"""Two processes do the work of one: the same steps, the same weights, the same measurements."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers import forked
from rerank_core.records.training_row import TrainingRow
from rerank_trainers.config.schema import Config
from rerank_trainers.data.batching import Draws
from rerank_trainers.loop.prepare import Run

# Each is trained by two processes at once and by one alone. 17 rows in steps of 8 leave a last step of one row, which
# keeps one process busy for nothing; a budget of 40 cuts every process's share otherwise, groups included.
SETTINGS: dict[str, tuple[str, ...]] = {
    "whole": ("train.batch_size=8", "objective=bce"),
    "cut": ("train.batch_size=8", "train.token_budget=40"),
    # In the second step one process starts with a group in parts, scored without a graph, and the other does not.
    "uneven": ("train.batch_size=8", "train.token_budget=55"),
    "recomputed": ("train.batch_size=8", "train.token_budget=40", "model.gradient_checkpointing=true"),
    # Queries are compared with the documents of both processes; the filler row of the last step with none.
    "embedding": ("train.batch_size=8", "model.kind=embedding", "model.width=24", "objective=infonce"),
    "colbert": ("train.batch_size=8", "model.kind=colbert", "objective=infonce", "train.token_budget=80"),
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


SCRIPT = Path(__file__).parents[1] / "helpers" / "one_process.py"


def jobs_file(folder: Path, jobs: list[dict[str, Any]]) -> str:
    (folder / "jobs.json").write_text(json.dumps(jobs), encoding="utf-8")
    return str(folder / "jobs.json")


def interrupted(folder: Path, job: dict[str, Any], *, after: str) -> None:
    """Run two processes to their end, started as torchrun does; the second one is sent SIGINT after it wrote a line."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, str(SCRIPT), jobs_file(folder, [job])]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    outputs = [folder / f"output-{rank}" for rank in (0, 1)]
    started = [
        forked.start(
            command, cwd=folder, env={**os.environ, **shared, "RANK": rank, "LOCAL_RANK": rank},
            stdout=output, stderr=output.with_suffix(".errors"),
        )
        for rank, output in zip("01", outputs, strict=True)
    ]  # fmt: skip
    try:
        while started[1].is_alive():
            if outputs[1].exists() and after in outputs[1].read_text().splitlines():
                os.kill(started[1].pid, signal.SIGINT)
                break
            time.sleep(0.05)
        for process, output in zip(started, outputs, strict=True):
            process.join(300)
            assert process.exitcode == 0, output.with_suffix(".errors").read_text()
    finally:
        for process in started:
            process.kill()
            process.join()
            process.close()


@pytest.fixture
def found(
    told: dict[str, Any], configured: Callable[..., Config], rows: Callable[..., list[TrainingRow]]
) -> dict[str, Any]:
    """What two processes that torchrun starts, on a machine without a GPU, make of every setting, and then of `train`:
    one start for all of them."""
    folder = told["folder"]
    if "configs" not in told:
        data, dev = written(folder / "rows.jsonl", rows(17)), written(folder / "dev.jsonl", rows(9))
        told["configs"] = {name: configured(*given, f"train.out={folder / name}") for name, given in SETTINGS.items()}
        jobs = [
            {"config": dataclasses.asdict(config), "rows": data, "dev": dev, "out": str(folder / f"{name}-of-2")}
            for name, config in told["configs"].items()
        ]
        command = configured("train.max_steps=1", f"data.train=[{data}]", f"train.out={folder / 'command'}")
        jobs.append({"config": dataclasses.asdict(command), "out": str(folder / "command-of-2")})
        # torchrun, with workers that it forks instead of starting interpreters: the libraries are imported once.
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        forking = ["--run-path", "--start-method", "fork"] if forked.FORKS else []
        done = forked.run(
            [*torchrun, *forking, str(SCRIPT), jobs_file(folder, jobs)],
            env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        )
        assert done.returncode == 0, done.stderr
    return told


def results(found: dict[str, Any], name: str) -> tuple[list[dict[str, torch.Tensor]], list[dict[str, Any]]]:
    """Weights and measures of each process."""
    out = [found["folder"] / f"{name}-of-2-{rank}" for rank in (0, 1)]
    return (
        [torch.load(f"{one}.pt", weights_only=True) for one in out],
        [json.loads(Path(f"{one}.json").read_text()) for one in out],
    )


@pytest.mark.parametrize("name", ["whole", "cut", "uneven", "recomputed", "embedding", "colbert"])
def test_two_processes_train_as_one(
    found: dict[str, Any], prepared: Callable[..., Run], rows: Callable[..., list[TrainingRow]], name: str
) -> None:
    """After three steps, the last with fewer rows than processes, weights, losses and logs are those of one process
    with the same batch size."""
    assert [len(step) for step in Draws.of(rows(17), 8, 42).plan(0).steps] == [8, 8, 1]
    alone = prepared(*SETTINGS[name], rows=rows(17), dev=rows(9))
    start = {key: one.clone() for key, one in alone.model.module.state_dict().items()}
    alone.train()
    expected = alone.model.module.state_dict()
    weights, facts = results(found, name)

    assert max(float((expected[key] - start[key]).abs().max()) for key in start) > 5e-3
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


def test_the_command_under_torchrun_is_one_training(found: dict[str, Any]) -> None:
    """Two processes share the steps of `train` and write one run, in which each keeps its own generator's state."""
    _, facts = results(found, "command")

    assert [(one["processes"], one["device"], one["steps"]) for one in facts] == [(2, "cpu", 1)] * 2
    states = {path.name for path in (found["folder"] / "command" / "checkpoints" / "checkpoint-1").glob("rng_state*")}
    assert states == {"rng_state_0.pth", "rng_state_1.pth"}


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
    interrupted(folder, job, after="step 2")
    facts = [json.loads((folder / f"interrupted-told-{rank}.json").read_text()) for rank in (0, 1)]
    assert all(one["interrupted"] for one in facts)
    assert facts[0]["steps"] == facts[1]["steps"] <= 4

    second = prepared("train.epochs=2", f"train.out={config.train.out}")
    second.train(resume=True)
    whole = prepared("train.epochs=2")
    whole.train()
    for one, other in zip(second.model.module.parameters(), whole.model.module.parameters(), strict=True):
        assert float((one - other).detach().abs().max()) <= 1e-5
