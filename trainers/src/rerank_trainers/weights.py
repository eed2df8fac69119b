"""Weights to train, in float32: a checkpoint's own, and fresh ones only where a score head was never there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from rerank_core import CheckpointError, InputError
from rerank_core.backends.torch.loading import configuration, quiet
from rerank_trainers.config import ModelConfig

__all__ = ["classifier", "language_model"]

# What a sequence classifier adds to its base model, at transformers.
_HEADS = ("classifier", "score", "pooler", "head", "sequence_summary", "pre_classifier")


def classifier(directory: Path, config: ModelConfig, tokenizer: Any) -> tuple[Any, list[str]]:
    """A one-label sequence classifier, and the names of the weights that are fresh.

    Raises:
        CheckpointError: files that cannot be loaded, or weights missing beside the head's.
    """
    from transformers import AutoModelForSequenceClassification

    told = _configured(directory, config)
    told.num_labels = 1
    told.problem_type = None
    if tokenizer.pad_token_id is None:
        raise InputError(f"{directory}: the tokenizer has no padding token; set one before training a classifier")
    told.pad_token_id = tokenizer.pad_token_id
    module, report = _loaded(AutoModelForSequenceClassification, directory, told, config)
    fresh = sorted({*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])})
    lost = [name for name in fresh if not any(part in _HEADS for part in name.split("."))]
    if lost:
        raise CheckpointError(f"{directory} lacks weights of the model itself: {lost[:5]!r}, {len(lost)} in all")
    return module, fresh


def language_model(directory: Path, config: ModelConfig) -> tuple[Any, list[str]]:
    """A causal language model with its output layer.

    Raises:
        CheckpointError: files that cannot be loaded, or weights missing.
    """
    from transformers import AutoModelForCausalLM

    module, report = _loaded(AutoModelForCausalLM, directory, _configured(directory, config), config)
    lost = sorted({*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])})
    if lost:
        raise CheckpointError(f"{directory} lacks weights of the model: {lost[:5]!r}, {len(lost)} in all")
    return module, []


def _configured(directory: Path, config: ModelConfig) -> Any:
    told = configuration(directory)
    if config.dropout is not None:
        if not 0 <= config.dropout < 1:
            raise InputError(f"model.dropout is {config.dropout!r}; it must be from 0 to less than 1")
        for name, value in told.to_dict().items():
            if ("dropout" in name or name.endswith("pdrop")) and (value is None or isinstance(value, (int, float))):
                setattr(told, name, config.dropout)
    return told


def _loaded(auto: Any, directory: Path, told: Any, config: ModelConfig) -> tuple[Any, dict[str, Any]]:
    more: dict[str, Any] = {}
    if config.lora is not None and config.lora.bits == 4:
        from transformers import BitsAndBytesConfig

        more["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
        )
    try:
        with quiet():
            module, report = auto.from_pretrained(
                str(directory),
                config=told,
                dtype=torch.float32,
                local_files_only=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                **more,
            )
    except (OSError, ValueError, RuntimeError, KeyError, ImportError) as error:
        raise CheckpointError(f"{directory} cannot be loaded for training: {error}") from error
    return module, report
