"""What would end a run after hours, looked for before its first step."""

from __future__ import annotations

from rerank_core import InputError
from rerank_trainers.config import Config

__all__ = ["check_settings"]


def check_settings(config: Config, *, evaluates: bool) -> None:
    """Refuse numbers that no run can have, and settings that ask for what others rule out.

    Args:
        evaluates: whether there is a dev set.

    Raises:
        InputError: names the setting.
    """
    train = config.train
    for name, value, least in (
        ("train.batch_size", train.batch_size, 1),
        ("train.token_budget", train.token_budget, 1),
        ("train.log_steps", train.log_steps, 1),
        ("train.eval_steps", 1 if train.eval_steps is None else train.eval_steps, 1),
        ("train.patience", 1 if train.patience is None else train.patience, 1),
        ("train.keep_checkpoints", train.keep_checkpoints, 1),
        ("train.workers", train.workers, 0),
        ("data.group_size", config.data.group_size, 0),
        ("model.max_length", config.model.max_length, 1),
    ):
        if value < least:
            raise InputError(f"{name} is {value!r}; it must be at least {least}")
    if train.max_steps < 1 and not train.epochs > 0:
        raise InputError(f"train.epochs is {train.epochs!r}; it must be above 0, or train.max_steps at least 1")
    if train.patience is not None and not evaluates:
        raise InputError("train.patience counts evaluations, and data.eval names no dev set")
