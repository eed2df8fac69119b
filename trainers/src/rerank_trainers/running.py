"""One training run, from its configuration to a published folder."""

from __future__ import annotations

import dataclasses
import logging
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import transformers

from rerank_core import InputError, Reranker, registry
from rerank_core.records.labels import LabelScale
from rerank_core.records.row import TrainingRow
from rerank_trainers import model as models
from rerank_trainers import resuming
from rerank_trainers.arguments import arguments_of
from rerank_trainers.checked import scale_of
from rerank_trainers.checkpoint_files import unfinished
from rerank_trainers.config import Config, DataConfig, TrainConfig
from rerank_trainers.evaluating import MEASURES, DevSet, Result, measures_of
from rerank_trainers.layerwise import Layerwise
from rerank_trainers.needs import check_needs
from rerank_trainers.objectives import Objective, combined, objective_of
from rerank_trainers.passes import Passes
from rerank_trainers.precision import in_float32, restore_forward
from rerank_trainers.preflight import check_settings
from rerank_trainers.reading import Groups
from rerank_trainers.recording import data_facts, record, start_facts
from rerank_trainers.settings import write_config
from rerank_trainers.signal import check_signal
from rerank_trainers.start_kind import check_start
from rerank_trainers.stopping import CollapseWatch, Interrupt
from rerank_trainers.trainer import RerankTrainer

__all__ = ["Plan", "Run", "check_objective", "live_reranker", "objective_from", "plan", "prepare"]

_LOG = logging.getLogger("rerank_trainers")
_Callback = TypeVar("_Callback")


def objective_from(config: Config) -> Objective:
    """The weighted sum that a configuration names.

    Raises:
        InputError: an unknown objective or option, or a weight that is not positive.
    """
    if not config.objective:
        raise InputError("objective is empty; name at least one, like softmax_ce")
    parts = [(part.weight, objective_of(part.name, **part.options)) for part in config.objective]
    found = parts[0][1] if len(parts) == 1 and parts[0][0] == 1 else combined(parts)
    return Layerwise(found, config.model.self_distill) if config.model.kind == "layerwise" else found


def check_objective(objective: Objective, rows: Sequence[TrainingRow], data: DataConfig) -> None:
    """Refuse data of which the objective could learn nothing, before any model is loaded.

    Raises:
        InputError: rows without what it reads, or rows that all say the same.
    """
    check_needs(objective, rows, data.group_size)
    check_signal(rows, scale_of(data), objective.needs, data.group_size)


@dataclass(eq=False)
class Run:
    """A run that is ready to start."""

    config: Config
    model: models.Model
    trainer: RerankTrainer
    dev: DevSet | None
    rows: Sequence[TrainingRow]
    dev_rows: Sequence[TrainingRow] | None

    def train(self, *, resume: bool | str = False, overwrite: bool = False) -> None:
        """Train from the start, or on from the newest checkpoint (``resume=True``) or a named one.

        Interrupted once (Ctrl-C), it ends after the step it is in and saves a checkpoint.

        Args:
            overwrite: delete the checkpoints of an earlier run where it starts anew.

        Raises:
            InputError: nothing to resume, other settings, data or another model than the run began with (nothing on
                disk is changed then), or a fresh start beside the checkpoints of an earlier run.
            NonFiniteLossError: a loss or gradient is NaN or infinite; the last checkpoint stands.
        """
        checkpoint = self._checkpoint(resume, overwrite=overwrite)
        if self.trainer.args.process_index == 0:
            self._record(checkpoint, overwrite=overwrite)
        # Nobody looks for checkpoints, or writes one, before the first process has put the folder in order.
        self.trainer.accelerator.wait_for_everyone()
        try:
            self.trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        finally:
            self._of(Interrupt).release()
            restore_forward(self.model.module)

    def _checkpoint(self, resume: bool | str, *, overwrite: bool) -> Path | None:
        """Where training starts, after all that speaks against it was looked for; nothing is written."""
        out = self.config.train.out
        if resume is False:
            if not overwrite and self.trainer.args.process_index == 0:
                resuming.check_fresh(out)
            return None
        checkpoint = resuming.checkpoint_of(resume, out)
        if self.trainer.args.process_index == 0:
            resuming.check_same(self.config, self.facts, checkpoint)
            resuming.check_start(self.model.spec, self.config, checkpoint)
            resuming.check_steps(checkpoint, self.steps)
        return checkpoint

    def _record(self, checkpoint: Path | None, *, overwrite: bool) -> None:
        """Write down what is trained on what, and remove what no run will read again."""
        out = Path(self.config.train.out)
        if checkpoint is None and overwrite:
            shutil.rmtree(out / "checkpoints", ignore_errors=True)
        for folder in unfinished(out):
            shutil.rmtree(folder, ignore_errors=True)
        write_config(self.config, out / "config.json")
        record(out, "data", self.facts)
        record(out, "start", start_facts(self.model.spec))

    @property
    def steps(self) -> int:
        """How many steps the run is to have."""
        args = self.trainer.args
        if args.max_steps > 0:
            return int(args.max_steps)
        return math.ceil(
            float(args.num_train_epochs) * math.ceil(len(self.trainer.train_dataset) / self.trainer.batch_size)
        )

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What its data are; see `recording.data_facts`."""
        return data_facts(self.rows, self.dev_rows)

    def _of(self, kind: type[_Callback]) -> _Callback:
        return next(one for one in self.trainer.callback_handler.callbacks if isinstance(one, kind))

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended training early."""
        return self.trainer.state.global_step < self.trainer.state.max_steps and self._of(Interrupt).asked

    @property
    def collapsed(self) -> bool:
        """Whether training was stopped because scores no longer differed within a query."""
        return self._of(CollapseWatch).collapsed

    def evaluate(self) -> Result | None:
        """The dev set under the weights as they are; None without one. All processes must ask."""
        return None if self.dev is None else _measured(self.dev, self.model)


def live_reranker(model: models.Model) -> Reranker:
    """The model in training as serving would run it."""
    return Reranker.from_scorer(model.scorer, model.spec)


def _measured(dev: DevSet, model: models.Model) -> Result:
    with in_float32(model.module):
        return dev.evaluate(live_reranker(model))


@dataclass(frozen=True, eq=False)
class Plan:
    """What a run will do, checked before any model is opened."""

    objective: Objective
    train: TrainConfig
    args: transformers.TrainingArguments
    scale: LabelScale
    dev: DevSet | None


def plan(config: Config, rows: Sequence[TrainingRow], dev_rows: Sequence[TrainingRow] | None = None) -> Plan:
    """Check everything that can be checked without a model.

    Args:
        rows: to train on; checked by `checking` already.
        dev_rows: None where there is no dev set.

    Raises:
        InputError: settings or data that do not fit together.
    """
    if not len(rows):
        raise InputError("there is no row to train on")
    train = config.train
    check_settings(config, evaluates=dev_rows is not None)
    check_start(config.model, registry.default())
    objective = objective_from(config)
    check_objective(objective, rows, config.data)
    scale = scale_of(config.data)
    if dev_rows is not None:
        # ir_measures' own spelling, which its results have: MRR@10 is RR@10.
        train = dataclasses.replace(train, metric=str(measures_of([train.metric])[0]))
    args = arguments_of(train, evaluates=dev_rows is not None)
    if dev_rows is None:
        return Plan(objective, train, args, scale, None)
    measures = tuple(dict.fromkeys((train.metric, *MEASURES)))
    dev = DevSet(dev_rows, measures, scale=scale, rank=args.process_index, world=args.world_size)
    if dev.left_out:
        _LOG.warning(
            "data.eval: %d of %d rows have no relevant document, or no irrelevant one; they are not measured",
            dev.left_out,
            len(dev_rows),
        )
    return Plan(objective, train, args, scale, dev)


def prepare(config: Config, rows: Sequence[TrainingRow], dev_rows: Sequence[TrainingRow] | None = None) -> Run:
    """Check everything that can be checked without a model, then open it; see `plan`.

    Raises:
        InputError: settings or data that do not fit together.
        CheckpointError: a model that cannot be loaded.
    """
    planned = plan(config, rows, dev_rows)
    train, objective, args, dev = planned.train, planned.objective, planned.args, planned.dev
    # Before the model is made: a fresh head is drawn from the seed.
    transformers.set_seed(train.seed)
    model = models.open_model(config.model, name=Path(train.out).resolve().name, frozen_bias=objective.shift_invariant)
    limit = model.scorer.max_positions
    if limit is not None and config.model.max_length > limit:
        raise InputError(
            f"model.max_length is {config.model.max_length!r}, and the model has {limit} positions; use at most {limit}"
        )
    _tell(model, rows)
    callbacks: list[transformers.TrainerCallback] = [CollapseWatch(), Interrupt(), resuming.CurrentSettings()]
    if train.patience is not None:
        callbacks.append(transformers.EarlyStoppingCallback(train.patience))
    trainer = RerankTrainer(
        model,
        objective,
        Groups(rows, planned.scale, config.data.group_size, train.seed),
        Passes(model.scorer, config.model.max_length, config.model.max_query_length, train.token_budget),
        args,
        batch_size=train.batch_size,
        evaluate=None if dev is None else lambda: dict(_measured(dev, model).values),
        callbacks=callbacks,
    )
    # It prints each log to stdout, where results belong; `showing.Display` is ours.
    trainer.remove_callback(transformers.PrinterCallback)
    return Run(config, model, trainer, dev, rows, dev_rows)


def _tell(model: models.Model, rows: Sequence[TrainingRow]) -> None:
    if model.fresh:
        _LOG.warning(
            "the score head is fresh: weights that the checkpoint does not have start at random: %s",
            ", ".join(model.fresh),
        )
    if not model.scorer.packed:
        _LOG.warning(
            "this model is trained on padded rows: its attention cannot be packed, or layout='padded' asks for it"
        )
    follows = any(option.name == "instruction" for option in model.spec.options)
    if not follows and any(row.instruction is not None for row in rows):
        _LOG.warning("rows bring instructions, and %r follows none; they are not read", model.spec.name)
