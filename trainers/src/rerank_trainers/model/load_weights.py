"""Weights to train, in float32: a checkpoint's own, and fresh ones only where a score head was never there."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import torch

from rerank_core import CheckpointError, InputError, MissingDependencyError
from rerank_core.backends.torch.load_weights import configuration, from_files
from rerank_trainers.config.schema import ModelConfig

__all__ = ["configured", "decoder", "language_model", "load_classifier"]

# What a sequence classifier adds to its base model, at transformers.
_HEADS = ("classifier", "score", "pooler", "head", "sequence_summary", "pre_classifier")


def load_classifier(directory: Path, config: ModelConfig, tokenizer: Any) -> tuple[Any, list[str]]:
    """A one-label sequence classifier, and the names of the weights that are fresh.

    Raises:
        CheckpointError: files that cannot be loaded, or weights missing beside the head's.
        InputError: no padding token, by which a decoder finds a row's last token.
    """
    from transformers import AutoModelForSequenceClassification

    told = configured(configuration(directory), config)
    told.num_labels = 1
    told.problem_type = None
    if tokenizer.pad_token_id is None:
        raise InputError(f"{directory}: the tokenizer has no padding token; set one before training a classifier")
    told.pad_token_id = tokenizer.pad_token_id
    module, fresh = _loaded(AutoModelForSequenceClassification, directory, told, config)
    lost = [name for name in fresh if not any(part in _HEADS for part in name.split("."))]
    _refuse(directory, lost)
    return module, fresh


def language_model(directory: Path, config: ModelConfig) -> Any:
    """A causal language model with its output layer.

    Raises:
        CheckpointError: files that cannot be loaded, or weights missing.
    """
    from transformers import AutoModelForCausalLM

    return _whole(AutoModelForCausalLM, directory, configured(configuration(directory), config), config)


def decoder(directory: Path, told: Any, config: ModelConfig) -> Any:
    """A causal model without its output layer.

    Args:
        told: its transformers configuration.

    Raises:
        CheckpointError: files that cannot be loaded, or weights missing.
    """
    from transformers import AutoModel

    return _whole(AutoModel, directory, told, config)


def configured(told: Any, config: ModelConfig) -> Any:
    """A transformers configuration with our settings written into it."""
    if config.dropout is not None:
        if not 0 <= config.dropout < 1:
            raise InputError(f"model.dropout is {config.dropout!r}; it must be from 0 to less than 1")
        for name, value in told.to_dict().items():
            if ("dropout" in name or name.endswith("pdrop")) and (value is None or isinstance(value, (int, float))):
                setattr(told, name, config.dropout)
    return told


def _whole(auto: Any, directory: Path, told: Any, config: ModelConfig) -> Any:
    module, lost = _loaded(auto, directory, told, config)
    _refuse(directory, lost)
    return module


def _refuse(directory: Path, lost: list[str]) -> None:
    if lost:
        raise CheckpointError(f"{directory} lacks weights of the model itself: {lost[:5]!r}, {len(lost)} in all")


def _loaded(auto: Any, directory: Path, told: Any, config: ModelConfig) -> tuple[Any, list[str]]:
    """A module, and the names of its weights that the files do not have, or have in another shape."""
    more = _quantized() if config.lora is not None and config.lora.bits == 4 else {}
    module, report = from_files(auto, directory, told, torch.float32, **more)
    return module, sorted({*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])})


def _quantized() -> dict[str, Any]:
    """What loads a base model in 4 bits (NF4; Dettmers et al., *QLoRA*, 2023).

    Raises:
        MissingDependencyError: bitsandbytes is not installed.
        InputError: no GPU.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        raise MissingDependencyError("model.lora.bits=4 needs bitsandbytes: pip install 'rerank-trainers[qlora]'")
    if not torch.cuda.is_available():
        raise InputError("model.lora.bits=4 needs a GPU, and torch finds none; leave it out to train plain LoRA")
    from transformers import BitsAndBytesConfig

    # Heads are read or trained whole, which takes more than 4 bits.
    chosen = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_skip_modules=["lm_head", *_HEADS],
    )
    return {"quantization_config": chosen}
