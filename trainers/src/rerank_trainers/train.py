"""One run, from its configuration to a published folder: read and check the data, train, evaluate, publish."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rerank_core import InputError
from rerank_core.progress import Progress
from rerank_trainers.checks.checked_data import open_and_check
from rerank_trainers.checks.report import Report
from rerank_trainers.checks.training_signal import ValueRange
from rerank_trainers.config.limits import check_settings
from rerank_trainers.config.schema import Config
from rerank_trainers.data.row_store import RowStore
from rerank_trainers.evaluation.dev_data import DevData
from rerank_trainers.evaluation.result import Result
from rerank_trainers.kinds import kind_of
from rerank_trainers.loop import resume_checks
from rerank_trainers.loop.preflight import check_out
from rerank_trainers.loop.prepare import Run, objective_from, open_planned, plan_run, prepare
from rerank_trainers.loop.run_record import data_facts
from rerank_trainers.model.averaging import average, start_of
from rerank_trainers.objectives.distillation import KL
from rerank_trainers.publish.from_run import publish_run
from rerank_trainers.publish.publish import check_target

__all__ = ["Data", "Outcome", "leave", "read_data", "rehearse", "train"]

_LOG = logging.getLogger("rerank_trainers")


@dataclass(frozen=True, eq=False)
class Data:
    """The checked rows of a run; ``dev`` is None without a dev set."""

    rows: RowStore
    dev: DevData | None


def read_data(config: Config, progress: Progress | None = None) -> Data:
    """Open and check the training and dev rows; unusable rows are left out.

    The findings of `rerank train check` are logged as warnings: each kind with its count and first locations.

    Raises:
        InputError: bad rows with ``on_error="error"``, rows that the objective cannot learn from, or unreadable files.
    """
    data = open_and_check(config.data, progress=progress)
    # Logged before any error is raised: a warning may explain the error.
    for name, report in data.reports():
        if report.counts:
            _LOG.warning("%s: %s", name, report.as_text())
    usable = data.usable()
    needs = objective_from(config, kind_of(config.model)).needs
    reason = data.why_no_signal(needs, config.train.batch_size)
    if reason is not None:
        raise InputError(f"nothing can be learned from these rows: {reason}")
    _warn_flat(config, data.report.signal.scores)
    if config.data.same_source and needs.step:
        _warn_alone(data.report)
    return Data(*usable)


def _warn_alone(report: Report) -> None:
    """Warn of sources whose only row makes a step of its own, without texts of other rows."""
    alone = sum(count == 1 for count in report.sources.values())
    if alone:
        _LOG.warning(
            "data.same_source: %d of %d sources have a single row, which makes a step of its own: it is compared with "
            "no text of another row, and teaches nothing if it has no negatives. Give such rows a common source",
            alone, len(report.sources),
        )  # fmt: skip


def _warn_flat(config: Config, scores: ValueRange) -> None:
    """Warn of a teacher whose softmax is nearly uniform: `kl` would teach to score all documents alike."""
    for part in config.objective:
        temperature = part.options.get("teacher_temperature", KL.teacher_temperature)
        gap = scores.gaps / max(1, scores.varied_rows)
        if part.name == KL.name and 0 < gap < temperature:
            _LOG.warning(
                "kl: within a query the teacher's scores differ by %.2g on average, so at teacher_temperature %r their "
                "softmax is nearly uniform, and the model learns to score all documents alike. Set "
                "objective.options.teacher_temperature to about %.1g (0.02 for cosines)",
                gap, temperature, gap / 10,
            )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Outcome:
    """The result of a run.

    Attributes:
        before, after: dev set metrics before and after training; None without a dev set.
        published: the published folder; None if training was interrupted or collapsed, or with ``publish=False``.
    """

    run: Run
    data: Data
    before: Result | None
    after: Result | None
    published: Path | None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        state = self.run.trainer.state
        return {
            "out": self.run.config.train.out,
            "published": None if self.published is None else str(self.published),
            "interrupted": self.run.interrupted,
            "collapsed": self.run.collapsed,
            "rows": len(self.data.rows),
            "dev_rows": None if self.data.dev is None else len(self.data.dev),
            "steps": state.global_step,
            "epochs": state.epoch,
            "before": None if self.before is None else dict(self.before.values),
            "after": None if self.after is None else dict(self.after.values),
            "best_checkpoint": state.best_model_checkpoint,
        }


def rehearse(
    config: Config, *, resume: bool | str = False, overwrite: bool = False, progress: Progress | None = None
) -> Data:
    """Do what `train` does before its first step and write nothing: check data, settings and folder, load the model.

    Raises:
        InputError, CheckpointError: as `train` would.
    """
    data, _, checkpoint = _ready(config, resume=resume, overwrite=overwrite, publish=True, progress=progress)
    model, _ = open_planned(plan_run(config, kind_of(config.model), data.rows, data.dev), config, data.rows, data.dev)
    if checkpoint is not None:
        resume_checks.check_start(model.spec, config, checkpoint)
    return data


def _ready(
    config: Config, *, resume: bool | str, overwrite: bool, publish: bool, progress: Progress | None
) -> tuple[Data, dict[str, Any], Path | None]:
    """Check settings and the run's folder, then read the data.

    Returns:
        the data, the facts of them to record, and the checkpoint to resume from (None for a fresh run).
    """
    # Reading the data may take long, so faulty settings are reported before it.
    check_settings(config, evaluates=bool(config.data.eval))
    kind = kind_of(config.model)
    kind.check(config)
    objective_from(config, kind)
    check_out(config)
    if publish:
        check_target(Path(config.train.out) / "final", overwrite=True)
    if resume is False and not overwrite:
        resume_checks.check_fresh(config.train.out)
    data = read_data(config, progress)
    facts = data_facts(data.rows, data.dev, config.data)
    if resume is False:
        return data, facts, None
    checkpoint = resume_checks.checkpoint_of(resume, config.train.out)
    # Compared before the model is loaded; `Run.train` compares the rest.
    resume_checks.check_same(config, facts, checkpoint)
    return data, facts, checkpoint


def train(
    config: Config,
    *,
    resume: bool | str = False,
    overwrite: bool = False,
    publish: bool = True,
    callbacks: list[Any] | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Train and publish what a configuration says.

    Args:
        resume: continue from the newest checkpoint of ``train.out`` (True), or from the checkpoint folder named.
        overwrite: delete the checkpoints of an earlier run in ``train.out`` and start anew.
        publish: write ``train.out/final``, reload it in a fresh process, and require the scores of the live model.
        callbacks: callbacks for transformers' Trainer.
        progress: called while the data is read.

    Raises:
        InputError: unusable data or settings, found before the model is loaded wherever possible.
        NonFiniteLossError: a loss or gradient became NaN or infinite; the last checkpoint is kept.
        PublishError: the folder did not load with equal scores.
    """
    data, facts, checkpoint = _ready(config, resume=resume, overwrite=overwrite, publish=publish, progress=progress)
    run = prepare(config, kind_of(config.model), data.rows, data.dev)
    run.facts = facts
    for callback in callbacks or []:
        run.trainer.add_callback(callback)
    before = None if resume else run.evaluate()
    run.train(resume=False if checkpoint is None else str(checkpoint), overwrite=overwrite)
    if run.interrupted or run.collapsed:
        return Outcome(run, data, before, None, None)
    if share := config.publish.average_with_start:
        average(run.model, start_of(config.model, run.model.kind), share)
    after = run.evaluate()
    if not publish or run.trainer.args.process_index != 0:
        return Outcome(run, data, before, after, None)
    try:
        return Outcome(run, data, before, after, publish_run(run, before=before, after=after).directory)
    except KeyboardInterrupt:
        _LOG.warning(
            "interrupted before the model was published; its checkpoints are complete: `rerank train publish %s OUT` "
            "publishes it, and --resume does",
            config.train.out,
        )
        raise


def leave() -> None:
    """Destroy the process group of a distributed run; its threads would abort the process if the interpreter ended
    first."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
