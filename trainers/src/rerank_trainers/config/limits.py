"""Refuses values out of range and settings that contradict each other, before any data is read."""

from __future__ import annotations

import re
from collections.abc import Mapping

from rerank_core.errors import InputError, short
from rerank_trainers.config.schema import Config, DataConfig, TrainConfig

__all__ = ["check_settings"]

_KINDS = ("files", "queries", "corpus", "pairs")
_NAME = re.compile(r"[\w.-]+")


def check_settings(config: Config, *, evaluates: bool) -> None:
    """Refuse values out of range and settings that contradict each other.

    Args:
        evaluates: whether there is a dev set.

    Raises:
        InputError: such a setting, named with its value.
    """
    data, model, train, lora = config.data, config.model, config.train, config.model.lora
    limits: list[tuple[str, float | None, float]] = [
        ("train.batch_size", train.batch_size, 1),
        ("train.token_budget", train.token_budget, 1),
        ("train.log_steps", train.log_steps, 1),
        ("train.eval_steps", train.eval_steps, 1),
        ("train.patience", train.patience, 1),
        ("train.keep_checkpoints", train.keep_checkpoints, 1),
        ("train.workers", train.workers, 0),
        ("train.learning_rate", train.learning_rate, 0),
        ("train.weight_decay", train.weight_decay, 0),
        ("train.clip", train.clip, 0),
        ("train.seed", train.seed, 0),
        ("data.group_size", data.group_size, 0),
        ("model.max_length", model.max_length, 1),
        ("model.max_query_length", model.max_query_length, 1),
        ("model.first_layer", model.first_layer, 1),
        ("model.self_distill", model.self_distill, 0),
        ("model.dropout", model.dropout, 0),
    ]
    if lora is not None:
        limits += [("model.lora.r", lora.r, 1), ("model.lora.alpha", lora.alpha, 1)]
        limits += [("model.lora.dropout", lora.dropout, 0)]
    for file in data.train_files():
        if not file.weight > 0:
            raise InputError(f"the weight of {file.path!r} in data.train is {file.weight!r}; it must be above 0")
    _check_dev_sets(data)
    for name, value, minimum in limits:
        if value is not None and value < minimum:
            raise InputError(f"{name} is {value!r}; it must be at least {minimum}")
    for name, fraction in (
        ("model.dropout", model.dropout),
        ("model.lora.dropout", None if lora is None else lora.dropout),
        ("train.warmup", train.warmup),
    ):
        if fraction is not None and not 0 <= fraction < 1:
            unit = ": a fraction of the steps, not their number" if name == "train.warmup" else ""
            raise InputError(f"{name} is {fraction!r}; it must be at least 0 and below 1{unit}")
    if not 0 <= config.publish.average_with_start <= 1:
        raise InputError(
            f"publish.average_with_start is {config.publish.average_with_start!r}; it must be from 0, the trained "
            "weights, to 1, those of the start"
        )
    if train.seed >= 2**32:
        raise InputError(f"train.seed is {short(train.seed)}; numpy takes seeds below 2**32")
    if train.max_steps != -1 and train.max_steps < 1:
        raise InputError(f"train.max_steps is {train.max_steps!r}; it must be at least 1, or -1 to use train.epochs")
    if train.max_steps < 1 and not train.epochs > 0:
        raise InputError(f"train.epochs is {train.epochs!r}; it must be above 0, or train.max_steps at least 1")
    if train.patience is not None and not evaluates:
        raise InputError(
            "train.patience counts evaluations of a dev set, and data.eval is empty; set it, or leave patience out"
        )
    if train.metric != TrainConfig.metric and not evaluates:
        raise InputError(
            f"train.metric is {train.metric!r}, which selects a checkpoint by a dev set, and data.eval is empty; set "
            "it, or leave metric out"
        )
    if config.publish.calibrate and not evaluates:
        raise InputError("publish.calibrate fits the score to the labels of a dev set; set data.eval, or leave it out")
    if config.publish.calibrate and not any(one.files for one in data.eval_sets().values()):
        raise InputError(
            "publish.calibrate fits the score to the labels of ranked documents, and data.eval has no set of these"
        )


def _check_dev_sets(data: DataConfig) -> None:
    """Refuse dev sets without a usable name, or of no kind or of two.

    Raises:
        InputError: names the set.
    """
    for name, one in data.eval_sets().items():
        if isinstance(data.eval, Mapping) and name in _KINDS:
            raise InputError(
                f"data.eval has the key {name!r}, which is no name of a dev set but belongs into one: give the set a "
                "name, as in {dev: {queries: FILE, corpus: FILE}}"
            )
        if isinstance(data.eval, Mapping) and not _NAME.fullmatch(name):
            raise InputError(f"{name!r} is no name of a dev set; use letters, digits, - _ and .")
        given = [kind for kind in _KINDS if getattr(one, kind)]
        if given not in (["files"], ["queries", "corpus"], ["pairs"]):
            raise InputError(
                f"data.eval.{name} has {' and '.join(given) or 'no files'}; a dev set is FILE, {{queries: FILE, "
                "corpus: FILE} or {pairs: FILE}"
            )
