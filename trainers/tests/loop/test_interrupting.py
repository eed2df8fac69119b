"""A run that is interrupted loses nothing, and goes on from the right checkpoint or says why not."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from helpers.runs import EVERYTHING, AtStep, Configured, MakeRows, Prepared, folder, interrupt, same, trained, weights

from helpers import forked
from rerank_core import InputError


@pytest.mark.parametrize(
    ("every", "step"),
    [("train.eval_steps=4", 2), ("train.eval_steps=4", 8), ("train.eval_steps=null", 5), ("train.eval_steps=null", 7)],
)
def test_ctrl_c_loses_nothing(
    prepared: Prepared, uninterrupted: Prepared, rows: MakeRows, every: str, step: int
) -> None:
    """Interrupted at any step, the run ends with a checkpoint there; gone on with, it measures what it would have
    measured, and ends with the same weights."""
    told = (*EVERYTHING, every)
    whole = uninterrupted(every, dev=9)
    before = signal.getsignal(signal.SIGINT)
    first = prepared(*told, dev=rows(9))
    first.trainer.add_callback(AtStep(step - 1, interrupt))  # caught between two steps: the next is the last
    first.train()
    assert first.interrupted
    assert first.trainer.state.global_step == step
    assert signal.getsignal(signal.SIGINT) is before

    out = f"train.out={first.config.train.out}"
    second = prepared(*told, out, dev=rows(9))
    assert same(trained(second, resume=True), weights(whole))
    assert not second.interrupted
    measured = [
        [(one["step"], one["eval_AP"]) for one in run.trainer.state.log_history if "eval_AP" in one]
        for run in (whole, second)
    ]
    assert measured[0] == measured[1]
    assert second.trainer.state.best_metric == whole.trainer.state.best_metric


def test_the_last_checkpoint_outlives_a_better_one(prepared: Prepared, rows: MakeRows) -> None:
    """With one checkpoint to keep, transformers would delete what Ctrl-C saved because an earlier one is better."""
    told = ("train.learning_rate=0", "train.epochs=2", "train.keep_checkpoints=1", "train.eval_steps=2")
    first = prepared(*told, dev=rows(9))
    first.trainer.add_callback(AtStep(5, interrupt))
    first.train()
    step = first.trainer.state.global_step
    assert first.trainer.state.best_model_checkpoint != str(folder(first, step))
    assert (folder(first, step) / "trainer_state.json").is_file()


def test_a_second_ctrl_c_ends_at_once(prepared: Prepared) -> None:
    """Who does not want to wait for the step does not have to, and the signal is handed back."""
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell starts this behind it
    before = signal.getsignal(signal.SIGINT)
    run = prepared(*EVERYTHING)

    def twice() -> None:
        interrupt()
        interrupt()

    run.trainer.add_callback(AtStep(3, twice))
    try:
        with pytest.raises(KeyboardInterrupt):
            run.train()
        assert signal.getsignal(signal.SIGINT) is before
    finally:
        signal.signal(signal.SIGINT, inherited)


def test_a_process_that_is_sent_sigint_saves_and_can_be_gone_on_with(
    configured: Configured, prepared: Prepared, uninterrupted: Prepared, rows: MakeRows, tmp_path: Path
) -> None:
    """The same from outside: a training process gets the signal while it trains, and exits as if all were well."""
    config = configured(*EVERYTHING)
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(dataclasses.asdict(row)) + "\n" for row in rows()), encoding="utf-8")
    told = {"config": dataclasses.asdict(config), "rows": str(data), "loud": True, "out": str(tmp_path / "told")}
    (tmp_path / "jobs.json").write_text(json.dumps([told]), encoding="utf-8")
    script = Path(__file__).parents[1] / "helpers" / "one_process.py"
    output, errors = tmp_path / "output", tmp_path / "errors"
    process = forked.start(
        [sys.executable, str(script), str(tmp_path / "jobs.json")], cwd=tmp_path, stdout=output, stderr=errors,
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},  # sums of two threads end in other bits
    )  # fmt: skip
    while process.is_alive():
        if output.exists() and "step 3\n" in output.read_text():
            os.kill(process.pid, signal.SIGINT)
            break
        time.sleep(0.05)
    process.join()
    assert process.exitcode == 0, errors.read_text()
    process.close()
    found = json.loads((tmp_path / "told-0.json").read_text())
    assert found["interrupted"]
    assert 3 <= found["steps"] <= 4

    second = prepared(*EVERYTHING, f"train.out={config.train.out}")
    assert same(trained(second, resume=True), weights(uninterrupted()))


def test_a_half_written_checkpoint_is_passed_over(prepared: Prepared, uninterrupted: Prepared) -> None:
    """Killed while saving, a run goes on from the checkpoint before, not from weights without a state."""
    whole = uninterrupted("train.eval_steps=3")
    second = prepared(*EVERYTHING, "train.eval_steps=3")
    shutil.copytree(whole.config.train.out, second.config.train.out, dirs_exist_ok=True)
    for step in (9, 10):
        (folder(second, step) / "trainer_state.json").unlink()
    assert same(trained(second, resume=True), weights(whole))


@pytest.mark.parametrize(
    "told", [("train.max_steps=3",), ("train.epochs=9", "train.patience=2", "train.learning_rate=0", "train.warmup=0")]
)
def test_a_finished_run_takes_no_further_step(prepared: Prepared, rows: MakeRows, told: tuple[str, ...]) -> None:
    """Resumed because publishing was interrupted, a run that ended amid an epoch or early is what it was."""
    told = (*EVERYTHING, "train.eval_steps=1", *told)
    first = prepared(*told, dev=rows(9))
    first.train()
    second = prepared(*told, f"train.out={first.config.train.out}", dev=rows(9))
    assert same(trained(second, resume=True), weights(first))
    assert first.trainer.state.global_step == second.trainer.state.global_step == 3
    assert folder(second, 3).is_dir()
    assert not folder(second, 4).exists()
    assert not second.interrupted


def test_what_cannot_be_resumed_is_said(prepared: Prepared, tmp_path: Path) -> None:
    """No checkpoint, a folder that is none, other steps than the run began with, and a fresh start beside an old
    run's checkpoints."""
    with pytest.raises(InputError, match="has no checkpoint to resume; start without --resume"):
        prepared().train(resume=True)
    with pytest.raises(InputError, match=r"is not a checkpoint of a run: it has no trainer_state\.json"):
        prepared().train(resume=str(tmp_path))
    run = prepared("train.max_steps=1")
    run.train()
    out = f"train.out={run.config.train.out}"
    with pytest.raises(InputError, match=r"train\.batch_size is 2 and was 4"):
        prepared(out, "train.batch_size=2", "train.max_steps=2").train(resume=True)
    with pytest.raises(InputError, match=r"data\.group_size is 2 and was 3"):
        prepared(out, "data.group_size=2", "train.max_steps=2").train(resume=True)
    with pytest.raises(InputError, match=r"has 1 checkpoints of an earlier run; continue with --resume"):
        prepared(out).train()
    longer = prepared(out, "train.max_steps=2")
    longer.train(resume=str(folder(run, 1)))
    assert longer.trainer.state.global_step == 2
