"""One training run, from its configuration to a published folder."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformers

from rerank_core import InputError, Reranker
from rerank_trainers import model as models
from rerank_trainers.config import Config, TrainConfig
from rerank_trainers.evaluating import MEASURES, DevSet, Result
from rerank_trainers.labels import LabelScale
from rerank_trainers.objectives import Objective, combined, objective_of
from rerank_trainers.passes import Passes
from rerank_trainers.reading import Groups
from rerank_trainers.rows import TrainingRow
from rerank_trainers.settings import write_config
from rerank_trainers.stopping import CollapseWatch, Interrupt
from rerank_trainers.trainer import RerankTrainer

__all__ = ["Run", "arguments_of", "objective_from", "prepare"]

_LOG = logging.getLogger("rerank_trainers")


def objective_from(config: Config) -> Objective:
    """The weighted sum that a configuration names.

    Raises:
        InputError: an unknown objective or option, or a weight that is not positive.
    """
    if not config.objective:
        raise InputError("objective is empty; name at least one, like softmax_ce")
    parts = [(part.weight, objective_of(part.name, **part.options)) for part in config.objective]
    return parts[0][1] if len(parts) == 1 and parts[0][0] == 1 else combined(parts)


def scale_of(config: Config) -> LabelScale:
    """What a label becomes."""
    data = config.data
    if data.label_map is not None:
        return LabelScale.of({float(label): worth for label, worth in data.label_map.items()})
    return LabelScale.of(data.label_range)


def check_needs(objective: Objective, rows: Sequence[TrainingRow]) -> None:
    """Refuse data that lacks what the objective reads, before any model is loaded.

    Raises:
        InputError: names the first row.
    """
    needs = objective.needs
    for row in rows:
        missing = [
            name
            for name, needed, value in (("labels", needs.labels, row.labels), ("scores", needs.scores, row.scores))
            if needed and value is None
        ]
        if missing:
            raise InputError(
                f"the objective {objective.name!r} needs {' and '.join(missing)}, and the row {row.id} has none. "
                "`rerank train label` writes a teacher's scores"
            )
    if needs.docs > 1 and all(len(row.docs) < needs.docs for row in rows):
        raise InputError(
            f"the objective {objective.name!r} compares documents of a query, and every row has a single one; "
            "use bce or mse, or group the rows by query"
        )


def arguments_of(train: TrainConfig, *, evaluates: bool) -> transformers.TrainingArguments:
    """transformers' arguments of a run.

    Raises:
        InputError: ``train.arguments`` names something that is ours to say, or that transformers does not know.
    """
    every = "steps" if train.eval_steps is not None else "epoch"
    ours: dict[str, Any] = {
        "output_dir": str(Path(train.out) / "checkpoints"),
        "num_train_epochs": train.epochs,
        "max_steps": train.max_steps,
        "learning_rate": train.learning_rate,
        "lr_scheduler_type": train.schedule,
        "warmup_steps": train.warmup,
        "weight_decay": train.weight_decay,
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 1,
        "max_grad_norm": train.clip,
        "bf16": train.precision == "bf16",
        "fp16": train.precision == "fp16",
        "seed": train.seed,
        "eval_strategy": every if evaluates else "no",
        "save_strategy": every,
        "eval_steps": train.eval_steps,
        "save_steps": train.eval_steps or 500,
        "logging_steps": train.log_steps,
        # A NaN would be logged as 0.
        "logging_nan_inf_filter": False,
        "save_total_limit": train.keep_checkpoints,
        "load_best_model_at_end": evaluates,
        "metric_for_best_model": f"eval_{train.metric}" if evaluates else None,
        "greater_is_better": True if evaluates else None,
        "dataloader_num_workers": train.workers,
        "remove_unused_columns": False,
        "report_to": "none",
        "disable_tqdm": True,
    }
    if train.device == "cpu":
        ours["use_cpu"] = True
    elif train.device is not None:
        raise InputError(
            f"train.device is {train.device!r}; say 'cpu', or leave it out (CUDA_VISIBLE_DEVICES chooses a GPU)"
        )
    settled = {name for name in ours if name not in ("report_to", "disable_tqdm", "save_total_limit")}
    taken = sorted(settled & set(train.arguments))
    known = {item.name for item in dataclasses.fields(transformers.TrainingArguments)}
    unknown = sorted(set(train.arguments) - known)
    if taken or unknown:
        raise InputError(
            f"train.arguments: {taken + unknown!r}; "
            + ("settings of train.* say that" if taken else "no such argument of transformers' TrainingArguments")
        )
    return transformers.TrainingArguments(**{**ours, **train.arguments})


@dataclass(eq=False)
class Run:
    """A run that is ready to start."""

    config: Config
    model: models.Model
    trainer: RerankTrainer
    dev: DevSet | None

    def train(self, *, resume: bool | str = False) -> None:
        """Train from the start, or on from the newest checkpoint (``resume=True``) or a named one.

        Interrupted once (Ctrl-C), it ends after the step it is in and saves a checkpoint.

        Raises:
            InputError: nothing to resume.
        """
        checkpoint = self._checkpoint(resume)
        self.trainer.train(resume_from_checkpoint=checkpoint)

    def _checkpoint(self, resume: bool | str) -> str | None:
        if resume is False:
            return None
        if isinstance(resume, str):
            return resume
        from transformers.trainer_utils import get_last_checkpoint

        folder = Path(self.config.train.out) / "checkpoints"
        found: str | None = get_last_checkpoint(str(folder)) if folder.is_dir() else None
        if found is None:
            raise InputError(f"{str(folder)!r} has no checkpoint to resume; start without --resume")
        return found

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended training early."""
        return self.trainer.state.global_step < self.trainer.state.max_steps and _stopped(self.trainer)

    def evaluate(self) -> Result | None:
        """The dev set under the weights as they are; None without one."""
        return None if self.dev is None else self.dev.evaluate(live_reranker(self.model))


def live_reranker(model: models.Model) -> Reranker:
    """The model in training as serving would run it."""
    return Reranker.from_scorer(model.scorer, model.spec)


def prepare(config: Config, rows: Sequence[TrainingRow], dev_rows: Sequence[TrainingRow] | None = None) -> Run:
    """Check everything that can be checked without a model, then open it.

    Args:
        rows: to train on; checked by `checking` already.
        dev_rows: None where there is no dev set.

    Raises:
        InputError: settings or data that do not fit together.
        CheckpointError: a model that cannot be loaded.
    """
    if not len(rows):
        raise InputError("there is no row to train on")
    train = config.train
    if train.batch_size < 1 or train.token_budget < 1:
        raise InputError(
            f"train.batch_size {train.batch_size!r} and token_budget {train.token_budget!r} must be positive"
        )
    objective = objective_from(config)
    check_needs(objective, rows)
    args = arguments_of(train, evaluates=dev_rows is not None)
    measures = tuple(dict.fromkeys((train.metric, *MEASURES)))
    dev = (
        None
        if dev_rows is None
        else DevSet(
            dev_rows, measures, lowest=config.data.label_range[0], rank=args.process_index, world=args.world_size
        )
    )
    # Before the model is made: a fresh head is drawn from the seed.
    transformers.set_seed(train.seed)
    model = models.open_model(config.model, name=Path(train.out).resolve().name, frozen_bias=objective.shift_invariant)
    _tell(model, rows)
    callbacks: list[transformers.TrainerCallback] = [CollapseWatch(), Interrupt()]
    if train.patience is not None:
        callbacks.append(transformers.EarlyStoppingCallback(train.patience))
    trainer = RerankTrainer(
        model,
        objective,
        Groups(rows, scale_of(config), config.data.group_size, train.seed),
        Passes(model.scorer, config.model.max_length, config.model.max_query_length, train.token_budget),
        args,
        batch_size=train.batch_size,
        evaluate=None if dev is None else lambda: dict(dev.evaluate(live_reranker(model)).values),
        callbacks=callbacks,
    )
    # It prints each log to stdout, where results belong; `showing.Display` is ours.
    trainer.remove_callback(transformers.PrinterCallback)
    if args.process_index == 0:
        Path(train.out).mkdir(parents=True, exist_ok=True)
        write_config(config, Path(train.out) / "config.json")
    return Run(config, model, trainer, dev)


def _tell(model: models.Model, rows: Sequence[TrainingRow]) -> None:
    if model.fresh:
        _LOG.warning("weights that the checkpoint does not have start at random: %s", ", ".join(model.fresh))
    if not model.scorer.packed:
        _LOG.warning(
            "this model is trained on padded rows: its attention cannot be packed, or layout='padded' asks for it"
        )
    follows = any(option.name == "instruction" for option in model.spec.options)
    if not follows and any(row.instruction is not None for row in rows):
        _LOG.warning("rows bring instructions, and %r follows none; they are not read", model.spec.name)


def _stopped(trainer: RerankTrainer) -> bool:
    return any(isinstance(one, Interrupt) and one.asked for one in trainer.callback_handler.callbacks)


def summary(run: Run) -> dict[str, Any]:
    """What a finished run has to say for itself: plain data."""
    state = run.trainer.state
    return {
        "steps": state.global_step,
        "epochs": state.epoch,
        "best_metric": state.best_metric,
        "best_checkpoint": state.best_model_checkpoint,
        "history": json.loads(json.dumps(state.log_history)),
    }
