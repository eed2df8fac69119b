"""A run can be repeated and gone on with to the bit, and keeps its best weights."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from helpers.runs import EVERYTHING, AtStep, MakeRows, Prepared, folder, same, trained, weights
from safetensors.torch import load_file

import rerank_core
from rerank_trainers.loop.prepare import live_reranker


def test_a_run_can_be_repeated(prepared: Prepared, uninterrupted: Prepared) -> None:
    """The same seed gives the same weights to the bit, another seed others."""
    first = weights(uninterrupted())
    assert same(first, trained(prepared(*EVERYTHING)))
    assert not same(first, trained(prepared(*EVERYTHING, "train.seed=7")))


def test_workers_change_nothing(prepared: Prepared, uninterrupted: Prepared) -> None:
    """Two processes that read and tokenize ahead give the weights of none."""
    assert same(weights(uninterrupted()), trained(prepared(*EVERYTHING, "train.workers=2")))


def test_measuring_changes_nothing(prepared: Prepared, uninterrupted: Prepared, rows: MakeRows) -> None:
    """A dev set ranked after every second step leaves dropout on and its dice where they were."""
    run = prepared(*EVERYTHING, "train.eval_steps=2", dev=rows(9))
    training = []
    run.trainer.add_callback(AtStep(3, lambda: training.append(run.model.module.training)))
    run.train()
    assert training == [True]
    assert same(load_file(folder(run, 10) / "model.safetensors"), weights(uninterrupted()))


@pytest.mark.parametrize(
    ("every", "step", "workers"),
    [(("train.eval_steps=3",), 3, 0), (("train.eval_steps=3",), 6, 2), ((), 5, 0)],
    ids=["midst of an epoch", "midst of the second, with workers", "end of an epoch"],
)
def test_a_resumed_run_is_the_uninterrupted_one(
    prepared: Prepared, uninterrupted: Prepared, every: tuple[str, ...], step: int, workers: int
) -> None:
    """From the midst of the first epoch, of the second, and from an epoch's end: weights, optimizer, schedule and
    logs are those of a run that was never stopped."""
    whole = uninterrupted(*every)
    second = prepared(*EVERYTHING, f"train.workers={workers}", *every)
    shutil.copytree(folder(whole, step), folder(second, step))

    assert same(trained(second, resume=True), weights(whole))
    assert [one["loss"] for one in second.trainer.state.log_history if "loss" in one] == [
        one["loss"] for one in whole.trainer.state.log_history if "loss" in one
    ]
    optimizers = [torch.load(folder(run, 10) / "optimizer.pt", weights_only=True) for run in (whole, second)]
    for one, other in zip(*(state["state"].values() for state in optimizers), strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_resumed_run_goes_on_counting_its_patience(prepared: Prepared, rows: MakeRows) -> None:
    """Early stopping comes when it would have come, not `patience` evaluations after resuming."""
    told = ("train.learning_rate=0", "train.epochs=9", "train.patience=3", "train.keep_checkpoints=20")
    whole = prepared(*told, rows=rows(8), dev=rows(3))
    whole.train()
    assert whole.trainer.state.epoch == 4  # the first is the best there will be; three more are no better
    second = prepared(*told, rows=rows(8), dev=rows(3))
    shutil.copytree(folder(whole, 6), folder(second, 6))
    second.train(resume=True)
    assert second.trainer.state.epoch == 4


def test_the_best_checkpoint_is_kept_and_loaded(prepared: Prepared, rows: MakeRows) -> None:
    """At the end the weights are those that ranked the dev set best, whose folder is still there and gives the
    metric that the log has."""
    # Learning that what is irrelevant is relevant, it gets worse and worse.
    wrong = [dataclasses.replace(row, labels=tuple(1 - label for label in row.labels or ())) for row in rows()]
    run = prepared("train.eval_steps=2", "train.epochs=3", "train.learning_rate=0.2", rows=wrong, dev=rows(9))
    run.train()
    state = run.trainer.state
    measured = {one["step"]: one["eval_nDCG@10"] for one in state.log_history if "eval_AP" in one}
    best = max(measured, key=measured.__getitem__)
    assert best < max(measured) - 2, "the best must not be among those that are kept anyway"
    assert measured[best] > measured[max(measured)]

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
    run = prepared("train.eval_steps=3", "train.max_steps=4", dev=rows(3))
    run.train()
    assert [one["step"] for one in run.trainer.state.log_history if "eval_AP" in one] == [3, 4]
    run = prepared("train.learning_rate=0", "train.epochs=9", "train.patience=1", rows=rows(8), dev=rows(3))
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
