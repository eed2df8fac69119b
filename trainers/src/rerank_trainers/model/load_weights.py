"""Loads the weights to train in float32; only a missing score head may start at random."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import torch

from rerank_core import CheckpointError, Head, InputError, MissingDependencyError
from rerank_core.backends.torch.load_weights import configuration, from_files
from rerank_trainers.config.schema import ModelConfig

__all__ = ["configured", "decoder", "language_model", "load_classifier"]

# Modules that transformers' sequence classifiers add to the base model.
_HEADS = ("classifier", "score", "pooler", "head", "sequence_summary", "pre_classifier")


def load_classifier(
    directory: Path, config: ModelConfig, tokenizer: Any, head: Head | None = None
) -> tuple[Any, list[str]]:
    """A one-label sequence classifier, and the names of the weights that start at random.

    A reranker with two labels starts as it scores: the rows of its last layer become their difference. Any other head
    with several labels is replaced by a random one.

    Args:
        head: the score head of the checkpoint; None for a base model.

    Raises:
        CheckpointError: files that cannot be loaded, or missing weights other than those of the head.
        InputError: no padding token; a decoder finds the last token of a row by it.
    """
    from transformers import AutoModelForSequenceClassification

    hf_config = configured(configuration(directory), config)
    two = head.labels if head is not None and head.label is not None and len(head.labels) == 2 else ()
    hf_config.num_labels = len(two) or 1
    hf_config.problem_type = None
    if tokenizer.pad_token_id is None:
        raise InputError(f"{directory}: the tokenizer has no padding token; set one before training a classifier")
    hf_config.pad_token_id = tokenizer.pad_token_id
    module, fresh = _loaded(AutoModelForSequenceClassification, directory, hf_config, config)
    missing = [name for name in fresh if not any(part in _HEADS for part in name.split("."))]
    _refuse(directory, missing)
    if two and head is not None:
        _subtract(module, two.index(head.label or ""), directory)
    return module, fresh


def _subtract(module: Any, label: int, directory: Path) -> None:
    """Replace the last layer's two rows by one: that of ``label`` less the other.

    Raises:
        CheckpointError: not exactly one linear layer with two outputs.
    """
    layers = [part for part in module.modules() if isinstance(part, torch.nn.Linear) and part.out_features == 2]
    if len(layers) != 1:
        raise CheckpointError(
            f"{directory} has two labels, and {len(layers)} layers with two outputs; it cannot be made a model with one"
        )
    (layer,) = layers
    layer.out_features = 1
    layer.weight = torch.nn.Parameter((layer.weight[label] - layer.weight[1 - label]).detach()[None])
    if layer.bias is not None:
        layer.bias = torch.nn.Parameter((layer.bias[label] - layer.bias[1 - label]).detach()[None])
    module.config.num_labels = module.num_labels = 1


def language_model(directory: Path, config: ModelConfig) -> Any:
    """A causal language model with its output layer.

    Raises:
        CheckpointError: files that cannot be loaded, or missing weights.
        InputError: an encoder-decoder.
    """
    from transformers import AutoModelForCausalLM

    hf_config = configured(configuration(directory), config)
    if getattr(hf_config, "is_encoder_decoder", False):
        raise InputError(
            f"{directory} is an encoder-decoder (model_type {hf_config.model_type!r}), which cannot be trained here; "
            "choose a causal language model, or an encoder with model.kind=cross-encoder"
        )
    return _whole(AutoModelForCausalLM, directory, hf_config, config)


def decoder(directory: Path, hf_config: Any, config: ModelConfig) -> Any:
    """A causal model without its output layer.

    Args:
        hf_config: transformers configuration of the model.

    Raises:
        CheckpointError: files that cannot be loaded, or missing weights.
    """
    from transformers import AutoModel

    return _whole(AutoModel, directory, hf_config, config)


def configured(hf_config: Any, config: ModelConfig) -> Any:
    """The transformers configuration with ``model.dropout`` written into it."""
    if config.dropout is not None:
        if not 0 <= config.dropout < 1:
            raise InputError(f"model.dropout is {config.dropout!r}; it must be from 0 to less than 1")
        for name, value in hf_config.to_dict().items():
            if ("dropout" in name or name.endswith("pdrop")) and (value is None or isinstance(value, (int, float))):
                setattr(hf_config, name, config.dropout)
    return hf_config


def _whole(auto: Any, directory: Path, hf_config: Any, config: ModelConfig) -> Any:
    module, missing = _loaded(auto, directory, hf_config, config)
    _refuse(directory, missing)
    return module


def _refuse(directory: Path, missing: list[str]) -> None:
    if missing:
        raise CheckpointError(f"{directory} lacks weights of the model itself: {missing[:5]!r}, {len(missing)} in all")


def _loaded(auto: Any, directory: Path, hf_config: Any, config: ModelConfig) -> tuple[Any, list[str]]:
    """A module, and the names of weights that the files lack or hold in another shape."""
    kwargs = _quantized() if config.lora is not None and config.lora.bits == 4 else {}
    module, report = from_files(auto, directory, hf_config, torch.float32, **kwargs)
    return module, sorted({*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])})


def _quantized() -> dict[str, Any]:
    """Arguments of ``from_pretrained`` that load a base model in 4 bits (NF4; Dettmers et al., *QLoRA*, 2023).

    Raises:
        MissingDependencyError: bitsandbytes is not installed.
        InputError: no GPU.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        raise MissingDependencyError("model.lora.bits=4 needs bitsandbytes: pip install 'rerank-trainers[qlora]'")
    if not torch.cuda.is_available():
        raise InputError("model.lora.bits=4 needs a GPU, and torch finds none; leave it out to train plain LoRA")
    from transformers import BitsAndBytesConfig

    # Score heads stay in full precision.
    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_skip_modules=["lm_head", *_HEADS],
    )
    return {"quantization_config": quantization}
