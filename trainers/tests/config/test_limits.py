"""What breaks a run is said: before a model is loaded wherever that can be, with the rows where it cannot."""

from __future__ import annotations

import dataclasses
import logging
import signal
from importlib.util import find_spec

import pytest
import torch
from helpers.runs import MakeRows, Prepared, same, weights

from rerank_core import InputError
from rerank_core.records.training_row import TrainingRow
from rerank_trainers.errors import NonFiniteLossError
from rerank_trainers.loop.prepare import live_reranker


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
    told = ("train.learning_rate=0", "data.group_size=0", "train.log_steps=3")
    some = rows(9)
    for budget in (1, 10**6):
        run = prepared(*told, f"train.token_budget={budget}", rows=some)
        run.train()
        scores = [torch.tensor(live_reranker(run.model).rerank(row.query, row.docs).scores()) for row in some]
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
        (["train.device=cuda:1"], r"train\.device is 'cuda:1'; set it to 'cpu'"),
        (["train.arguments.learning_rate=1"], r"\['learning_rate'\]; settings of train\.\* and model\.\* decide it"),
        (["train.arguments.seed=1"], r"\['seed'\]; settings"),
        (["train.arguments.gradient_accumulation_steps=4"], r"\['gradient_accumulation_steps'\]; settings"),
        (["train.arguments.per_device_train_batch_size=4"], r"settings of train"),
        (["train.arguments.logging_nan_inf_filter=true"], r"settings of train"),
        (["train.arguments.gradient_checkpointing=true"], r"set model\.gradient_checkpointing"),
        (["train.arguments.label_smoothing_factor=0.1"], r"\['label_smoothing_factor'\]; it has no effect"),
        (["train.arguments.dataloader_drop_last=true"], r"it has no effect"),
        (["train.arguments.push_to_hub=true"], r"\['push_to_hub'\]; `rerank train publish RUN OUT --push"),
        (["train.arguments.optimizer=sgd"], r"\['optimizer'\]; no such argument of transformers"),
        (["train.schedule=cosin"], r"transformers refuses these settings of train: .*cosin.* is not a valid"),
        (["train.arguments.optim=adam"], r"transformers refuses these settings of train: .*adam.* is not a valid"),
        (
            ["train.arguments.accelerator_config={gradient_accumulation_kwargs: {num_steps: 4}}"],
            r"steps are accumulated only by train\.token_budget",
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
    with pytest.raises(InputError, match="every row has a single document; use bce or mse"):
        prepared("model.checkpoint=/no/such/model", rows=alone)
    with pytest.raises(InputError, match="no row to train on"):
        prepared("model.checkpoint=/no/such/model", rows=[])


def test_rows_longer_than_the_model_reads(prepared: Prepared) -> None:
    """max_length beyond the position table would index past it in the midst of training."""
    with pytest.raises(InputError, match=r"model\.max_length is 600, and the model has 512 positions"):
        prepared("model.max_length=600")


def test_a_process_keeps_to_one_gpu(prepared: Prepared, caplog: pytest.LogCaptureFixture) -> None:
    """DataParallel would cut a packed row in the middle; torchrun is what uses several."""
    from rerank_trainers.loop.hf_arguments import one_gpu

    run = prepared()
    run.trainer.args._n_gpu = 4
    one_gpu(run.trainer.args)
    assert run.trainer.args.n_gpu == 1
    assert "one of 4 GPUs is used; start with torchrun" in caplog.text


@pytest.mark.skipif(find_spec("liger_kernel") is not None, reason="liger-kernel is installed")
def test_a_missing_package_is_told_before_the_first_step(prepared: Prepared) -> None:
    """transformers asks for liger-kernel only when the steps begin."""
    with pytest.raises(InputError, match="needs liger-kernel: pip install"):
        prepared("model.checkpoint=/no/such/model", "train.arguments.use_liger_kernel=true")
