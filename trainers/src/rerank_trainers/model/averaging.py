"""The weighted mean of a trained model's weights and those that it started from.

Wortsman et al., *Robust fine-tuning of zero-shot models*, CVPR 2022: the mean keeps most of the start's quality on
texts unlike the training data.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from rerank_core import InputError
from rerank_trainers.config.schema import ModelConfig
from rerank_trainers.model.kind import ModelKind
from rerank_trainers.model.trained_model import Model, open_model

__all__ = ["average", "start_of"]


def start_of(config: ModelConfig, kind: ModelKind) -> Model:
    """The model that a run starts from, without adapters."""
    return open_model(replace(config, lora=None, gradient_checkpointing=False), kind, name="start")


def average(model: Model, start: Model, share: float) -> None:
    """Move the weights of a model towards its start, in place: ``(1 - share) * trained + share * start``.

    Weights that started at random keep their trained values. Of adapters, which start at zero, the product is scaled.

    Args:
        start: the model that training started from, of `start_of`.
        share: from 0 to 1.

    Raises:
        InputError: a start of another shape.
    """
    module: Any = model.module
    before: dict[str, torch.Tensor] = start.module.state_dict()
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if ".lora_A." in name or ".original_module." in name:
                continue
            if ".lora_B." in name:
                weight.mul_(1 - share)
                continue
            plain = _plain_name(name)
            # A trained checkpoint does not tell which of its weights were new; its start does.
            if plain in start.fresh:
                continue
            if plain not in before or before[plain].shape != weight.shape:
                raise InputError(f"the weights that training started from have no {plain!r} of the trained shape")
            weight.lerp_(before[plain].to(weight), share)


def _plain_name(name: str) -> str:
    """The name of a weight without peft's wrappers."""
    name = name.removeprefix("base_model.model.").replace(".base_layer.", ".")
    return name.replace(".modules_to_save.default.", ".")
