"""From the settings of ``train`` to transformers' TrainingArguments; refuses arguments that have no effect here."""

from __future__ import annotations

import dataclasses
import importlib.util
import logging
import os
from pathlib import Path
from typing import Any

import torch
import transformers

from rerank_core import InputError
from rerank_trainers.config.schema import TrainConfig

__all__ = ["arguments_of", "one_gpu"]

_LOG = logging.getLogger("rerank_trainers")

# Arguments whose default is set here and which the caller may change.
_OPEN = ("report_to", "disable_tqdm", "save_total_limit", "ddp_find_unused_parameters")

# Arguments that only transformers' own data loader, loss and evaluation read; those are replaced here.
_UNREAD = frozenset(
    {
        "auto_find_batch_size", "batch_eval_metrics", "data_seed", "dataloader_drop_last",
        "dataloader_persistent_workers", "dataloader_pin_memory", "eval_accumulation_steps", "eval_do_concat_batches",
        "group_by_length", "include_for_metrics", "include_num_input_tokens_seen", "label_names",
        "label_smoothing_factor", "length_column_name",
        "per_device_eval_batch_size", "prediction_loss_only", "train_sampling_strategy",
    }
)  # fmt: skip


def arguments_of(train: TrainConfig, *, evaluates: bool) -> transformers.TrainingArguments:
    """transformers' arguments for a run.

    Raises:
        InputError: ``train.arguments`` names an argument that another setting decides, that has no effect here, or that
            transformers does not know; or transformers refuses a value.
    """
    known = {item.name for item in dataclasses.fields(transformers.TrainingArguments)}
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
        # The filter would log a NaN as 0.
        "logging_nan_inf_filter": False,
        "save_total_limit": train.keep_checkpoints,
        "load_best_model_at_end": evaluates,
        "metric_for_best_model": f"eval_{train.metric}" if evaluates else None,
        "greater_is_better": True if evaluates else None,
        # A resumed run continues to count its patience.
        "restore_callback_states_from_checkpoint": True,
        "dataloader_num_workers": train.workers,
        "remove_unused_columns": False,
        # Every trained weight takes part in every score; a search for unused ones would walk each graph.
        "ddp_find_unused_parameters": False,
        "report_to": "none",
        # transformers' bar writes to stdout, which is for results; `callbacks.Display` writes to stderr.
        "disable_tqdm": True,
    }
    if train.device == "cpu":
        ours["use_cpu"] = True
    elif train.device == "cuda" and not torch.cuda.is_available():
        raise InputError("train.device is 'cuda', and torch finds no CUDA device here; leave it out to train on a CPU")
    elif train.device not in (None, "cuda"):
        raise InputError(
            f"train.device is {train.device!r}; set it to 'cpu' or 'cuda', or leave it out (CUDA_VISIBLE_DEVICES "
            "chooses among GPUs)"
        )
    elif train.device is None and not torch.cuda.is_available() and _processes() > 1:
        # Without use_cpu, transformers would not connect the processes, and each would train alone.
        ours["use_cpu"] = True
    given = set(train.arguments)
    for names, why in (
        (given & set(ours) - set(_OPEN), "settings of train.* and model.* decide it"),
        (given & {"gradient_checkpointing", "activation_checkpointing"}, "set model.gradient_checkpointing"),
        (given & {"push_to_hub", "hub_model_id"}, "`rerank train publish RUN OUT --push OWNER/NAME` uploads the model"),
        (given & _UNREAD, "it has no effect: data loading, loss and evaluation are not transformers' own"),
        (given - known, "no such argument of transformers' TrainingArguments"),
    ):
        if names:
            raise InputError(f"train.arguments: {sorted(names)!r}; {why}")
    try:
        args = transformers.TrainingArguments(**{**ours, **train.arguments})
    except (ValueError, TypeError, ImportError) as error:
        raise InputError(f"transformers refuses these settings of train: {error}") from error
    if args.use_liger_kernel and importlib.util.find_spec("liger_kernel") is None:
        raise InputError("train.arguments.use_liger_kernel is true, which needs liger-kernel: pip install liger-kernel")
    if args.gradient_accumulation_steps != 1 or "num_steps" in (
        args.accelerator_config.gradient_accumulation_kwargs or {}
    ):
        raise InputError("train.arguments: steps are accumulated only by train.token_budget; set train.batch_size")
    if train.precision == "fp16" and args.device.type == "cpu":
        raise InputError("train.precision is 'fp16', which needs a GPU; on a CPU set 'bf16' or 'float32'")
    if (started := _processes()) != args.world_size:
        raise InputError(
            f"torchrun started {started} processes, of which transformers connects {args.world_size}: each would train "
            "alone. Set train.device to 'cpu', or start one process"
        )
    one_gpu(args)
    return args


def _processes() -> int:
    """Number of processes that torchrun (or a launcher that sets the same variables) started."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


def one_gpu(args: transformers.TrainingArguments) -> None:
    """Use one GPU in this process: DataParallel, transformers' default for several, would cut packed rows."""
    if args.n_gpu > 1:
        _LOG.warning("one of %d GPUs is used; start with torchrun to use all of them", args.n_gpu)
        args._n_gpu = 1
