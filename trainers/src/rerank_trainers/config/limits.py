"""Settings that no run can have, or that rule each other out; asked before any data is read."""

from __future__ import annotations

from rerank_core.errors import InputError, short
from rerank_trainers.config.schema import Config

__all__ = ["check_settings"]


def check_settings(config: Config, *, evaluates: bool) -> None:
    """Refuse numbers that no run can have, and settings that ask for what others rule out.

    Args:
        evaluates: whether there is a dev set.

    Raises:
        InputError: names the setting.
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
    for name, value, least in limits:
        if value is not None and value < least:
            raise InputError(f"{name} is {value!r}; it must be at least {least}")
    for name, share in (
        ("model.dropout", model.dropout),
        ("model.lora.dropout", None if lora is None else lora.dropout),
        ("train.warmup", train.warmup),
    ):
        if share is not None and not 0 <= share < 1:
            steps = ", a share of the steps and no number of them" if name == "train.warmup" else ""
            raise InputError(f"{name} is {share!r}; it must be at least 0 and below 1{steps}")
    if train.seed >= 2**32:
        raise InputError(f"train.seed is {short(train.seed)}; numpy takes seeds below 2**32")
    if train.max_steps != -1 and train.max_steps < 1:
        raise InputError(
            f"train.max_steps is {train.max_steps!r}; it must be at least 1, or -1 to count by train.epochs"
        )
    if train.max_steps < 1 and not train.epochs > 0:
        raise InputError(f"train.epochs is {train.epochs!r}; it must be above 0, or train.max_steps at least 1")
    if train.patience is not None and not evaluates:
        raise InputError("train.patience counts evaluations, and data.eval names no dev set")
    if config.publish.calibrate and model.kind in ("llm", "layerwise"):
        raise InputError(
            f"publish.calibrate is true, and model.kind {model.kind!r}: no scale and offset can be written into a "
            "language model; leave it out, the card reports the fit"
        )
    if config.publish.calibrate and not evaluates:
        raise InputError("publish.calibrate fits the score to the labels of a dev set; set data.eval, or leave it out")
