"""Checks before the first step for faults that would end a run hours later, or let it learn nothing."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import transformers

from rerank_core import InputError
from rerank_core.records.training_row import TrainingRow
from rerank_core.spec.hub_or_folder import file_path_of
from rerank_trainers.config.schema import Config
from rerank_trainers.data.hashing import digest
from rerank_trainers.loop.dataset import Group
from rerank_trainers.loop.passes import Passes

__all__ = ["check_out", "check_queries", "check_room", "check_schedule", "checkpoint_bytes", "published_bytes"]

_LOG = logging.getLogger("rerank_trainers")

_QUERIES_PER_CALL = 1024  # queries tokenized in one call
_TRIED = 10_000  # steps whose learning rate is computed


def check_out(config: Config) -> None:
    """Refuse a folder that cannot be written to; nothing is written.

    Raises:
        InputError: names the folder.
    """
    out = Path(file_path_of(config.train.out, "train.out"))
    for folder in (out, out / "checkpoints", out / "final"):
        if folder.exists() and not folder.is_dir():
            raise InputError(f"train.out is {config.train.out!r}, and {str(folder)!r} is no folder; give another")
    above = next(folder for folder in (out, *out.resolve().parents) if folder.exists())
    if not above.is_dir():
        raise InputError(f"train.out is {config.train.out!r}, and {str(above)!r} is no folder; give another")
    if not os.access(above, os.W_OK | os.X_OK):
        raise InputError(f"train.out is {config.train.out!r}, and {str(above)!r} cannot be written to; give another")


def check_schedule(args: transformers.TrainingArguments, steps: int) -> None:
    """Refuse an optimizer or schedule that cannot be built, ``report_to`` a package that is not installed, and a
    learning rate that is 0 at every step.

    Args:
        steps: steps of the whole run.

    Raises:
        InputError: names the settings.
    """
    try:
        for callback in transformers.integrations.get_reporting_integration_callbacks(args.report_to):
            callback()
    except (RuntimeError, ImportError, ValueError) as error:
        raise InputError(
            f"train.arguments.report_to is {args.report_to!r}: {error}; install it, or leave it out"
        ) from error
    weight = torch.nn.Parameter(torch.zeros(1))
    warmup = args.get_warmup_steps(steps)
    try:
        kind, options = transformers.Trainer.get_optimizer_cls_and_kwargs(args)
        options = {name: value for name, value in options.items() if name not in ("params", "model", "optimizer_dict")}
        optimizer = kind([weight], **{**options, "lr": 1.0})
        schedule = transformers.get_scheduler(
            args.lr_scheduler_type, optimizer, warmup, steps, args.lr_scheduler_kwargs or None
        )
    except (ValueError, TypeError, ImportError, RuntimeError) as error:
        raise InputError(
            f"train.schedule is {_name(args.lr_scheduler_type)!r}, train.arguments.optim {_name(args.optim)!r}: {error}"
        ) from error
    rates = []
    for _ in range(min(steps, _TRIED)):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        if isinstance(schedule, torch.optim.lr_scheduler.ReduceLROnPlateau):
            return
        schedule.step()
    if not max(rates) > 0:
        raise InputError(
            f"the run has {steps} step{'s' if steps > 1 else ''}, {warmup} of them of warm-up, and the learning rate "
            "is 0 in all: nothing would be learnt. Set train.warmup=0, or train longer (train.epochs, a smaller "
            "train.batch_size)"
        )


def _name(choice: Any) -> str:
    return str(getattr(choice, "value", choice))


def check_queries(passes: Passes, rows: Sequence[TrainingRow], name: str) -> None:
    """Refuse a row whose query leaves no room for a document; tokenizes each distinct query once.

    Args:
        name: setting that the rows come from, for the message.

    Raises:
        InputError: names the row.
    """
    seen: set[int] = set()

    def distinct() -> Any:
        for number, row in enumerate(rows):
            key = digest(row.instruction, row.query)
            if key not in seen:
                seen.add(key)
                yield Group(row.id or str(number), row.query, row.texts[:1], None, None, row.instruction, 0.0)

    groups = distinct()
    try:
        while some := list(islice(groups, _QUERIES_PER_CALL)):
            passes.check(some)
    except InputError as error:
        raise InputError(f"{name}: {error}. In a configuration: model.max_query_length, model.max_length") from error


def checkpoint_bytes(module: Any, args: transformers.TrainingArguments) -> int:
    """Approximate size of a checkpoint in bytes: saved weights plus the state of the optimizer."""
    adapters = hasattr(module, "peft_config")
    saved = trained = 0
    for weight in module.parameters():
        trained += weight.numel() if weight.requires_grad else 0
        saved += weight.numel() if weight.requires_grad or not adapters else 0
    optim = _name(args.optim).lower()
    state_bytes = 0 if args.save_only_model or "sgd" in optim or "adafactor" in optim else 2 if "8bit" in optim else 8
    return 4 * saved + state_bytes * trained


def published_bytes(module: Any, dtype: str) -> int:
    """Approximate size of the published weights in bytes."""
    each: int = getattr(torch, dtype).itemsize
    count: int = sum(weight.numel() for weight in module.parameters())
    return each * count


def check_room(out: str, size: int, count: int, published: int = 0) -> None:
    """Refuse to start where the disk has no room for the checkpoints and the published model.

    Args:
        size: bytes of one checkpoint.
        count: checkpoints that exist at once: the kept ones and the one being written.
        published: bytes of the published model.

    Raises:
        InputError: names the free and the needed space.
    """
    existing = next(folder for folder in (Path(out), *Path(out).resolve().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if size * count + published > free:
        more = f" and the published model of {published / 1e9:.2g} GB" if published else ""
        raise InputError(
            f"train.out is {out!r}, where {free / 1e9:.2g} GB are free; {count} checkpoints of about "
            f"{size / 1e9:.2g} GB{more} need more. Free space, give another train.out, or keep fewer "
            "(train.keep_checkpoints)"
        )
