"""A run can be repeated, interrupted and gone on with to the bit, keeps its best weights, and says when it breaks."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file

import rerank_core
from rerank_core import InputError
from rerank_trainers.config import Config
from rerank_trainers.errors import NonFiniteLossError
from rerank_trainers.rows import TrainingRow
from rerank_trainers.running import Run, live_reranker

Prepared = Callable[..., Run]
Configured = Callable[..., Config]
MakeRows = Callable[..., list[TrainingRow]]
State = dict[str, torch.Tensor]

# What makes every number of a run depend on all before it: dropout, Adam, a schedule, two epochs of five steps.
EVERYTHING = ("model.dropout=0.1", "train.arguments.optim=adamw_torch", "train.schedule=cosine", "train.warmup=0.2",
              "train.learning_rate=0.002", "train.epochs=2", "train.keep_checkpoints=20")  # fmt: skip


def weights(run: Run) -> State:
    """A copy of the weights."""
    return {name: one.clone() for name, one in run.model.module.state_dict().items()}


def same(one: State, other: State) -> bool:
    """Whether two sets of weights are equal to the bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def trained(run: Run, **options: Any) -> State:
    """The weights at a run's end."""
    run.train(**options)
    return weights(run)


def folder(run: Run, step: int) -> Path:
    """A checkpoint of a run."""
    return Path(run.trainer.args.output_dir) / f"checkpoint-{step}"


class AtStep(transformers.TrainerCallback):  # type: ignore[misc]
    """Does something after a step."""

    def __init__(self, step: int, what: Callable[[], Any]) -> None:
        self.step, self.what = step, what

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        if state.global_step == self.step:
            self.what()


# ---------------------------------------------------------------------- to the bit
def test_a_run_can_be_repeated(prepared: Prepared) -> None:
    """The same seed gives the same weights to the bit, another seed others."""
    first = trained(prepared(*EVERYTHING))
    assert same(first, trained(prepared(*EVERYTHING)))
    assert not same(first, trained(prepared(*EVERYTHING, "train.seed=7")))


def test_workers_change_nothing(prepared: Prepared) -> None:
    """Two processes that read and tokenize ahead give the weights of none."""
    assert same(trained(prepared(*EVERYTHING)), trained(prepared(*EVERYTHING, "train.workers=2")))


def test_measuring_changes_nothing(prepared: Prepared, rows: MakeRows) -> None:
    """A dev set ranked after every second step leaves dropout on and its dice where they were."""
    run = prepared(*EVERYTHING, "train.eval_steps=2", dev=rows(9))
    training = []
    run.trainer.add_callback(AtStep(3, lambda: training.append(run.model.module.training)))
    run.train()
    assert training == [True]
    plain = prepared(*EVERYTHING, "train.eval_steps=2")
    plain.train()
    assert same(load_file(folder(run, 10) / "model.safetensors"), load_file(folder(plain, 10) / "model.safetensors"))


@pytest.mark.parametrize(
    ("every", "step", "workers"),
    [("train.eval_steps=3", 3, 0), ("train.eval_steps=3", 6, 2), ("train.eval_steps=null", 5, 0)],
)
def test_a_resumed_run_is_the_uninterrupted_one(prepared: Prepared, every: str, step: int, workers: int) -> None:
    """From the midst of the first epoch, of the second, and from an epoch's end: weights, optimizer, schedule and
    logs are those of a run that was never stopped."""
    told = (*EVERYTHING, f"train.workers={workers}", every)
    whole = prepared(*told)
    expected = trained(whole)
    second = prepared(*told)
    shutil.copytree(folder(whole, step), folder(second, step))

    assert same(trained(second, resume=True), expected)
    assert [one["loss"] for one in second.trainer.state.log_history if "loss" in one] == [
        one["loss"] for one in whole.trainer.state.log_history if "loss" in one
    ]
    optimizers = [torch.load(folder(run, 10) / "optimizer.pt", weights_only=True) for run in (whole, second)]
    for one, other in zip(*(state["state"].values() for state in optimizers), strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_resumed_run_goes_on_counting_its_patience(prepared: Prepared, rows: MakeRows) -> None:
    """Early stopping comes when it would have come, not `patience` evaluations after resuming."""
    told = ("train.learning_rate=0", "train.epochs=9", "train.patience=3", "train.keep_checkpoints=20")
    whole = prepared(*told, dev=rows(9))
    whole.train()
    assert whole.trainer.state.epoch == 4  # the first is the best there will be; three more are no better
    second = prepared(*told, dev=rows(9))
    shutil.copytree(folder(whole, 15), folder(second, 15))
    second.train(resume=True)
    assert second.trainer.state.epoch == 4


# ---------------------------------------------------------------------- interrupted
def interrupt() -> None:
    """What Ctrl-C sends."""
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize(
    ("every", "step"),
    [("train.eval_steps=4", 2), ("train.eval_steps=4", 8), ("train.eval_steps=null", 5), ("train.eval_steps=null", 7)],
)
def test_ctrl_c_loses_nothing(prepared: Prepared, rows: MakeRows, every: str, step: int) -> None:
    """Interrupted at any step, the run ends with a checkpoint there; gone on with, it measures what it would have
    measured, and ends with the same weights."""
    told = (*EVERYTHING, every)
    whole = prepared(*told, dev=rows(9))
    expected = trained(whole)
    before = signal.getsignal(signal.SIGINT)
    first = prepared(*told, dev=rows(9))
    first.trainer.add_callback(AtStep(step - 1, interrupt))  # caught between two steps: the next is the last
    first.train()
    assert first.interrupted
    assert first.trainer.state.global_step == step
    assert signal.getsignal(signal.SIGINT) is before

    out = f"train.out={first.config.train.out}"
    second = prepared(*told, out, dev=rows(9))
    assert same(trained(second, resume=True), expected)
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
    before = signal.getsignal(signal.SIGINT)
    run = prepared(*EVERYTHING)

    def twice() -> None:
        interrupt()
        interrupt()

    run.trainer.add_callback(AtStep(3, twice))
    with pytest.raises(KeyboardInterrupt):
        run.train()
    assert signal.getsignal(signal.SIGINT) is before


def test_a_process_that_is_sent_sigint_saves_and_can_be_gone_on_with(
    configured: Configured, prepared: Prepared, rows: MakeRows, tmp_path: Path
) -> None:
    """The same from outside: a training process gets the signal while it trains, and exits as if all were well."""
    config = configured(*EVERYTHING)
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(dataclasses.asdict(row)) + "\n" for row in rows()), encoding="utf-8")
    told = {"config": dataclasses.asdict(config), "rows": str(data), "loud": True, "out": str(tmp_path / "told")}
    (tmp_path / "jobs.json").write_text(json.dumps([told]), encoding="utf-8")
    command = [sys.executable, str(Path(__file__).with_name("one_process.py")), str(tmp_path / "jobs.json")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stdout:
            if line == "step 3\n":
                process.send_signal(signal.SIGINT)
                break
        process.stdout.read()
        errors = process.stderr.read()
    assert process.returncode == 0, errors
    found = json.loads((tmp_path / "told-0.json").read_text())
    assert found["interrupted"]
    assert 3 <= found["steps"] <= 4

    second = prepared(*EVERYTHING, f"train.out={config.train.out}")
    assert same(trained(second, resume=True), trained(prepared(*EVERYTHING)))


# ---------------------------------------------------------------------- which checkpoint
def test_a_half_written_checkpoint_is_passed_over(prepared: Prepared) -> None:
    """Killed while saving, a run goes on from the checkpoint before, not from weights without a state."""
    told = (*EVERYTHING, "train.eval_steps=3")
    whole = prepared(*told)
    expected = trained(whole)
    for step in (9, 10):
        (folder(whole, step) / "trainer_state.json").unlink()
    second = prepared(*told, f"train.out={whole.config.train.out}")
    assert same(trained(second, resume=True), expected)


def test_what_cannot_be_resumed_is_said(prepared: Prepared, tmp_path: Path) -> None:
    """No checkpoint, a folder that is none, other steps than the run began with, and a fresh start beside an old
    run's checkpoints."""
    with pytest.raises(InputError, match="has no checkpoint to resume; start without --resume"):
        prepared().train(resume=True)
    with pytest.raises(InputError, match=r"is no checkpoint of a run: it has no trainer_state\.json"):
        prepared().train(resume=str(tmp_path))
    run = prepared("train.max_steps=1")
    run.train()
    out = f"train.out={run.config.train.out}"
    with pytest.raises(InputError, match=r"train\.batch_size is 2 and was 4"):
        prepared(out, "train.batch_size=2", "train.max_steps=2").train(resume=True)
    with pytest.raises(InputError, match=r"data\.group_size is 2 and was 3"):
        prepared(out, "data.group_size=2", "train.max_steps=2").train(resume=True)
    with pytest.raises(InputError, match=r"has 1 checkpoints of an earlier run; go on with --resume"):
        prepared(out).train()
    longer = prepared(out, "train.max_steps=2")
    longer.train(resume=str(folder(run, 1)))
    assert longer.trainer.state.global_step == 2


def test_the_best_checkpoint_is_kept_and_loaded(prepared: Prepared, rows: MakeRows) -> None:
    """At the end the weights are those that ranked the dev set best, whose folder is still there and gives the
    metric that the log has."""
    told = ("train.eval_steps=2", "train.seed=3", "train.epochs=3", "train.learning_rate=0.3", "model.dropout=0.1")
    run = prepared(*told, dev=rows(9))
    run.train()
    state = run.trainer.state
    measured = {one["step"]: one["eval_nDCG@10"] for one in state.log_history if "eval_AP" in one}
    best = max(measured, key=measured.__getitem__)
    assert best < 12 < max(measured), "the best must not be the last of all, or among those kept anyway"

    assert state.best_model_checkpoint == str(folder(run, best))
    assert same(weights(run), load_file(folder(run, best) / "model.safetensors"))
    assert state.best_metric == measured[best]
    assert run.dev is not None
    with rerank_core.load(str(folder(run, best)), device="cpu") as loaded:
        assert run.dev.evaluate(loaded).values["nDCG@10"] == measured[best]
    assert sorted(one.name for one in Path(run.trainer.args.output_dir).iterdir()) == sorted(
        [f"checkpoint-{best}", f"checkpoint-{max(measured)}"]
    )


def test_training_ends_with_a_measurement_and_stops_early(prepared: Prepared, rows: MakeRows) -> None:
    """The last step is measured wherever it falls (RAG-Retrieval: the first batch of an epoch, and never the end);
    without progress training stops."""
    run = prepared("train.eval_steps=3", "train.max_steps=4", dev=rows(9))
    run.train()
    assert [one["step"] for one in run.trainer.state.log_history if "eval_AP" in one] == [3, 4]
    run = prepared("train.learning_rate=0", "train.epochs=9", "train.patience=1", dev=rows(9))
    run.train()
    assert run.trainer.state.epoch == 2
    assert not run.interrupted
    assert not run.collapsed


def test_every_checkpoint_serves(prepared: Prepared, rows: MakeRows) -> None:
    """A checkpoint is a folder that `rerank_core.load` reads, with the scores of the live model at that step."""
    run = prepared("train.eval_steps=2", "train.max_steps=4", "train.keep_checkpoints=9")
    pairs = [(row.query, doc) for row in rows() for doc in row.docs] + [("panda", ""), ("panda", "bamboo " * 400)]
    live: dict[int, list[float]] = {}

    class Look(transformers.TrainerCallback):  # type: ignore[misc]
        def on_save(self, args: Any, state: Any, *more: Any, **others: Any) -> None:
            live[state.global_step] = live_reranker(run.model).score(pairs)

    run.trainer.add_callback(Look())
    run.train()
    assert set(live) == {2, 4}
    for step, scores in live.items():
        with rerank_core.load(str(folder(run, step)), device="cpu") as loaded:
            assert loaded.score(pairs) == pytest.approx(scores, abs=1e-5)
        config = json.loads((folder(run, step) / "config.json").read_text())
        assert "rerank_core_packed" not in json.dumps(config)


# ---------------------------------------------------------------------- when it breaks
def test_a_loss_that_is_not_finite_ends_the_run_and_names_the_rows(prepared: Prepared, rows: MakeRows) -> None:
    """transformers and sentence-transformers would log 0 and train on NaN."""
    data = rows(12, scores=True)
    data[7] = dataclasses.replace(data[7], scores=(*[1e38] * (len(data[7].docs) - 1), -1e38))
    before = signal.getsignal(signal.SIGINT)
    run = prepared("objective=margin_mse", "data.group_size=0", "train.batch_size=2", rows=data)
    with pytest.raises(NonFiniteLossError, match=r"the loss of the rows row-7 is not finite"):
        run.train()
    assert signal.getsignal(signal.SIGINT) is before
    assert all(torch.isfinite(one).all() for one in run.model.module.state_dict().values())


@pytest.mark.parametrize("clip", [0, 1])
def test_a_gradient_that_is_not_finite_ends_the_run_before_the_weights_move(
    prepared: Prepared, rows: MakeRows, clip: int
) -> None:
    """With clipping, which would spread the NaN, and without."""
    run = prepared(f"train.clip={clip}", "train.batch_size=2", rows=rows(4))
    module = run.model.module
    before = weights(run)
    module.bert.embeddings.word_embeddings.weight.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(NonFiniteLossError, match=r"the gradient of the rows row-\d, row-\d is not finite"):
        run.train()
    assert same(before, weights(run))


def test_a_collapsed_model_stops_training(prepared: Prepared, rows: MakeRows, caplog: pytest.LogCaptureFixture) -> None:
    """Scores that no longer differ within a query never recover: the run says so and stops, dead learning rates and
    all."""
    run = prepared("train.epochs=9", "train.learning_rate=0", "objective=bce")
    torch.nn.init.zeros_(run.model.module.classifier.weight)
    with caplog.at_level(logging.ERROR, "rerank_trainers"):
        run.train()
    assert run.collapsed
    assert run.trainer.state.global_step == 10
    assert "collapsed: for 10 logs in a row" in caplog.text


def test_queries_with_one_document_are_no_collapse(prepared: Prepared, rows: MakeRows) -> None:
    """Pointwise rows have no spread of their own; documents of all queries are compared there."""
    data = [TrainingRow(row.query, (doc,), (label,), id=f"{row.id}-{doc}") for row in rows(9)
            for doc, label in zip(row.docs, row.labels or (), strict=True)]  # fmt: skip
    run = prepared("objective=bce", "train.epochs=2", "data.group_size=0", rows=data)
    run.train()
    assert not run.collapsed
    assert run.trainer.state.global_step > 12
    spreads = [one["score_spread"] for one in run.trainer.state.log_history if "score_spread" in one]
    assert len(spreads) >= run.trainer.state.global_step - 2  # the last step of an epoch has a single document
    assert min(spreads) > 1e-3
    losses = [one["loss"] for one in run.trainer.state.log_history if "loss" in one]
    assert min(losses[-5:]) < losses[0]


def test_the_logged_spread_is_the_standard_deviation_within_queries(prepared: Prepared, rows: MakeRows) -> None:
    """Mean over the queries of the steps since the last log, whatever passes they were in."""
    told = ("train.learning_rate=0", "data.group_size=0", "train.log_steps=5")
    expected = None
    for budget in (1, 10**6):
        run = prepared(*told, f"train.token_budget={budget}")
        run.train()
        scores = [torch.tensor(live_reranker(run.model).rerank(row.query, row.docs).scores()) for row in rows()]
        expected = float(torch.stack([one.std(correction=0) for one in scores]).mean())
        assert run.trainer.state.log_history[0]["score_spread"] == pytest.approx(expected, rel=1e-4)


def test_a_query_without_room_ends_the_run_with_its_row(prepared: Prepared) -> None:
    """Cut by `max_query_length` it trains; otherwise its row is named, by a worker too."""
    data = [TrainingRow("panda " * 200, ("a bear", ""), (1.0, 0.0), id="the-long-one"),
            TrainingRow("panda", ("a bear", ""), (1.0, 0.0), id="fine")]  # fmt: skip
    for workers in (0, 1):
        with pytest.raises(InputError, match="the row the-long-one cannot be laid out"):
            prepared(f"train.workers={workers}", rows=data).train()
    run = prepared("model.max_query_length=20", rows=data)
    run.train()
    assert run.trainer.state.global_step == 1


# ---------------------------------------------------------------------- before a model is loaded
@pytest.mark.parametrize(
    ("told", "said"),
    [
        (["objective=kl"], r"'kl' needs scores, and the row row-0 has none.*rerank train label"),
        (["objective=sofmax_ce"], r"did you mean 'softmax_ce'"),
        (["data.group_size=1"], r"'softmax_ce' compares documents.*data\.group_size is 1; it must be at least 2"),
        (["data.group_size=-1"], r"data\.group_size is -1"),
        (["train.batch_size=0"], r"train\.batch_size is 0; it must be at least 1"),
        (["train.eval_steps=0"], r"train\.eval_steps is 0"),
        (["train.epochs=0"], r"train\.epochs is 0\.0; it must be above 0"),
        (["train.patience=2"], r"train\.patience counts evaluations"),
        (["train.device=cuda:1"], r"train\.device is 'cuda:1'; say 'cpu'"),
        (["train.arguments.learning_rate=1"], r"\['learning_rate'\]; settings of train\.\* and model\.\* say that"),
        (["train.arguments.seed=1"], r"\['seed'\]; settings"),
        (["train.arguments.gradient_accumulation_steps=4"], r"\['gradient_accumulation_steps'\]; settings"),
        (["train.arguments.per_device_train_batch_size=4"], r"settings of train"),
        (["train.arguments.logging_nan_inf_filter=true"], r"settings of train"),
        (["train.arguments.gradient_checkpointing=true"], r"set model\.gradient_checkpointing"),
        (["train.arguments.label_smoothing_factor=0.1"], r"\['label_smoothing_factor'\]; nothing reads that here"),
        (["train.arguments.dataloader_drop_last=true"], r"nothing reads that here"),
        (["train.arguments.optimizer=sgd"], r"\['optimizer'\]; no such argument of transformers"),
        (
            ["train.arguments.accelerator_config={gradient_accumulation_kwargs: {num_steps: 4}}"],
            r"steps are accumulated by train\.token_budget alone",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said_before_a_model_is_loaded(prepared: Prepared, told: list[str], said: str) -> None:
    """Data, objective and settings are looked at first: here no model could be loaded at all."""
    with pytest.raises(InputError, match=said):
        prepared("model.checkpoint=/no/such/model", *told)


def test_rows_that_no_ranking_loss_can_use(prepared: Prepared) -> None:
    """A single document a query, and no row at all."""
    alone = [TrainingRow("panda", ("bear",), (1.0,), id="a")]
    with pytest.raises(InputError, match="every row has a single one; use bce or mse"):
        prepared("model.checkpoint=/no/such/model", rows=alone)
    with pytest.raises(InputError, match="no row to train on"):
        prepared("model.checkpoint=/no/such/model", rows=[])


def test_rows_longer_than_the_model_reads(prepared: Prepared) -> None:
    """max_length beyond the position table would index past it in the midst of training."""
    with pytest.raises(InputError, match=r"model\.max_length is 600, and the model has 512 positions"):
        prepared("model.max_length=600")


def test_a_process_keeps_to_one_gpu(prepared: Prepared, caplog: pytest.LogCaptureFixture) -> None:
    """DataParallel would cut a packed row in the middle; torchrun is what uses several."""
    from rerank_trainers.arguments import one_gpu

    run = prepared()
    run.trainer.args._n_gpu = 4
    one_gpu(run.trainer.args)
    assert run.trainer.args.n_gpu == 1
    assert "of 4 GPUs one is used; start with torchrun" in caplog.text
