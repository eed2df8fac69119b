"""Prepares a run: checks configuration and data, loads the model, builds the trainer."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformers

from rerank_core import InputError
from rerank_core.plugins import registry
from rerank_core.records.training_row import TrainingRow
from rerank_trainers.config.limits import check_settings
from rerank_trainers.config.schema import Config, TrainConfig
from rerank_trainers.evaluation.dev_sets import DevSets
from rerank_trainers.loop import resume_checks
from rerank_trainers.loop.callbacks import CollapseWatch, Interrupt, without_known_messages
from rerank_trainers.loop.dataset import TrainingDataset
from rerank_trainers.loop.hf_arguments import arguments_of
from rerank_trainers.loop.passes import Passes
from rerank_trainers.loop.preflight import (
    check_queries,
    check_room,
    check_schedule,
    checkpoint_bytes,
    published_bytes,
)
from rerank_trainers.loop.run import Run, cut_widths, live_reranker, measure
from rerank_trainers.loop.trainer import RerankTrainer
from rerank_trainers.model import trained_model as models
from rerank_trainers.model.check_kind import check_start
from rerank_trainers.model.kind import ModelKind
from rerank_trainers.objectives.base import Objective
from rerank_trainers.objectives.registry import make_objective
from rerank_trainers.objectives.required_data import check_needs
from rerank_trainers.objectives.scaled import Scaled
from rerank_trainers.objectives.weighted import weighted_sum

__all__ = ["Run", "RunPlan", "live_reranker", "objective_from", "plan_run", "prepare"]

_LOG = logging.getLogger("rerank_trainers")


def objective_from(config: Config, kind: ModelKind) -> Objective:
    """The objective of a configuration, or the weighted sum of several.

    Raises:
        InputError: an unknown objective or option, a weight or temperature that is not positive, or an objective that
            such a model cannot learn from.
    """
    if not config.objective:
        raise InputError("objective is empty; name at least one, like softmax_ce")
    parts = []
    for part in config.objective:
        one: Objective = make_objective(part.name, **part.options)
        kind.check_objective(one)
        parts.append((part.weight, one if part.temperature is None else Scaled(one, part.temperature)))
    objective = parts[0][1] if len(parts) == 1 and parts[0][0] == 1 else weighted_sum(parts)
    return kind.objective(objective, config.model)


@dataclass(frozen=True, eq=False)
class RunPlan:
    """A checked configuration, before the model is loaded."""

    kind: ModelKind
    objective: Objective
    train: TrainConfig
    args: transformers.TrainingArguments
    groups: TrainingDataset
    dev: DevSets | None


def plan_run(
    config: Config, kind: ModelKind, rows: Sequence[TrainingRow], dev_rows: Sequence[TrainingRow] | None = None
) -> RunPlan:
    """Check everything that can be checked without a model.

    Args:
        rows: training rows, already checked by `checks`.
        dev_rows: None without a dev set.

    Raises:
        InputError: settings and data that contradict each other.
    """
    if not len(rows):
        raise InputError("there is no row to train on")
    train = config.train
    check_settings(config, evaluates=dev_rows is not None)
    kind.check(config)
    objective = objective_from(config, kind)
    check_needs(objective, rows, config.data.group_size)
    groups = TrainingDataset.of(rows, config.data, train.seed, objective.needs)
    dev = None if dev_rows is None else DevSets.of(dev_rows, train.metric, scale=groups.scale)
    if dev is not None:
        dev.check_search(encodes=kind.in_batch)
        train = dataclasses.replace(train, metric=dev.metric)
    args = arguments_of(train, evaluates=dev is not None)
    check_schedule(args, resume_checks.steps_of(config, rows))
    check_start(config.model, registry.default())
    if dev is not None:
        dev.share(args.process_index, args.world_size)
        for message in dev.left_out:
            _LOG.warning("%s", message)
    return RunPlan(kind, objective, train, args, groups, dev)


def open_planned(
    planned: RunPlan, config: Config, rows: Sequence[TrainingRow], dev_rows: Sequence[TrainingRow] | None
) -> tuple[models.Model, Passes]:
    """Load the model, and check what needs it; writes nothing.

    Raises:
        InputError: settings or data that do not fit the model, or too little free disk space.
        CheckpointError: a model that cannot be loaded.
    """
    train = planned.train
    # Set before the model is loaded: a fresh head is drawn from the seed.
    transformers.set_seed(train.seed)
    name = Path(train.out).resolve().name
    model = models.open_model(config.model, planned.kind, name=name, frozen_bias=planned.objective.shift_invariant)
    limit = model.scorer.max_positions
    if limit is not None and config.model.max_length > limit:
        raise InputError(
            f"model.max_length is {config.model.max_length!r}, and the model has {limit} positions; use at most {limit}"
        )
    vectors = None if model.spec.head is None else model.spec.head.vectors
    if limit is not None and vectors is not None and (vectors.expand_to or 0) > limit:
        raise InputError(
            f"model.tokens expands queries to {vectors.expand_to} tokens, and the model has {limit} positions; set "
            f"expand_to to at most {limit}"
        )
    if planned.dev is not None:
        planned.dev.check_label([str(width) for width in cut_widths(model)])
    _check_teacher(planned, model)
    passes = Passes(
        model.scorer,
        config.model.max_length,
        config.model.max_query_length,
        train.token_budget,
        whole=planned.objective.needs.step,
    )
    check_queries(passes, rows, "data.train")
    check_queries(passes, dev_rows or (), "data.eval")
    if planned.args.process_index == 0:
        steps = resume_checks.steps_of(config, rows)
        saves = math.ceil(steps / train.eval_steps) if train.eval_steps else math.ceil(train.epochs)
        count = min(train.keep_checkpoints + 1, max(1, saves))
        size = checkpoint_bytes(model.module, planned.args)
        check_room(train.out, size, count, published_bytes(model.module, config.publish.dtype))
    return model, passes


def _check_teacher(planned: RunPlan, model: models.Model) -> None:
    """Refuse a teacher's vectors of another width than the model's, if the objective compares the two.

    Raises:
        InputError: names both widths.
    """
    vectors = planned.groups.vectors
    if vectors is None or not planned.objective.needs.teacher_width:
        return
    scorer: Any = model.scorer
    width: int = scorer.width
    if width != vectors.width:
        raise InputError(
            f"the model's vectors have {width} values, and those of data.teacher_vectors {vectors.width}; "
            f"{planned.objective.name!r} needs equal widths: set model.width={vectors.width}, a new linear layer, or "
            "choose similarity_distill, which compares similarities"
        )


def prepare(
    config: Config, kind: ModelKind, rows: Sequence[TrainingRow], dev_rows: Sequence[TrainingRow] | None = None
) -> Run:
    """Check everything that needs no model (see `plan_run`), then load the model and build the trainer.

    Raises:
        InputError: settings and data that contradict each other.
        CheckpointError: a model that cannot be loaded.
    """
    planned = plan_run(config, kind, rows, dev_rows)
    train, objective, args, dev = planned.train, planned.objective, planned.args, planned.dev
    model, passes = open_planned(planned, config, rows, dev_rows)
    _warn(model, objective, rows)
    callbacks: list[transformers.TrainerCallback] = [CollapseWatch(), Interrupt(), resume_checks.CurrentSettings()]
    if train.patience is not None:
        callbacks.append(transformers.EarlyStoppingCallback(train.patience))
    with without_known_messages():
        trainer = RerankTrainer(
            model,
            objective,
            planned.groups,
            passes,
            args,
            batch_size=train.batch_size,
            evaluate=None if dev is None else lambda: dict(measure(dev, model).values),
            callbacks=callbacks,
        )
    # It prints logs to stdout, which is for results; `callbacks.Display` writes to stderr.
    trainer.remove_callback(transformers.PrinterCallback)
    return Run(config, model, trainer, dev, rows, dev_rows)


def _warn(model: models.Model, objective: Objective, rows: Sequence[TrainingRow]) -> None:
    if model.fresh:
        _LOG.warning(
            "the checkpoint lacks these weights, which start at random: %s",
            ", ".join(model.fresh),
        )
    scorer: Any = model.scorer
    if model.widths and model.widths[0] < scorer.width and not objective.needs.teacher_width:
        _LOG.warning(
            "model.matryoshka is %r, and the vectors have %d values: no loss reads those after the first %d, and the "
            "model is served with all by default. Add %d to the widths, or set model.width=%d",
            list(model.widths), scorer.width, model.widths[0], scorer.width, model.widths[0],
        )  # fmt: skip
    if not model.scorer.packed:
        _LOG.warning("this model is trained on padded rows: its attention cannot be packed, or layout='padded' is set")
    follows = any(option.name == "instruction" for option in model.spec.options)
    if not follows and any(row.instruction is not None for row in rows):
        _LOG.warning("the instructions of the rows are not used: %r takes none", model.spec.name)
