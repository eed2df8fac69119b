"""The weighted mean of a trained model's weights and those that it started from.

Wortsman et al., *Robust fine-tuning of zero-shot models*, CVPR 2022: the mean keeps most of the start's quality on
texts unlike the training data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from rerank_core import InputError
from rerank_trainers.config.schema import ModelConfig
from rerank_trainers.model.kind import ModelKind
from rerank_trainers.model.trained_model import Model, open_model

__all__ = ["average", "start_weights"]


def start_weights(config: ModelConfig, kind: ModelKind) -> dict[str, Tensor]:
    """State dict of the module that a run starts from, without adapters."""
    plain = replace(config, lora=None, gradient_checkpointing=False)
    weights: dict[str, Tensor] = open_model(plain, kind, name="start").module.state_dict()
    return weights


def average(model: Model, start: Mapping[str, Tensor], share: float) -> None:
    """Move the weights of a model towards its start, in place: ``(1 - share) * trained + share * start``.

    Weights that started at random keep their trained values. Of adapters, which start at zero, the product is scaled.

    Args:
        start: state dict of the module that training started from, without adapters.

    Raises:
        InputError: a share outside of 0 to 1, or a start of another shape.
    """
    if not 0 <= share <= 1:
        raise InputError(f"publish.average_with_start is {share!r}; it must be from 0 to 1")
    module: Any = model.module
    fresh = set(model.fresh)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if ".lora_A." in name or ".original_module." in name:
                continue
            if ".lora_B." in name:
                weight.mul_(1 - share)
                continue
            plain = _plain_name(name)
            if plain in fresh:
                continue
            if plain not in start or start[plain].shape != weight.shape:
                raise InputError(f"the weights that training started from have no {plain!r} of the trained shape")
            weight.lerp_(start[plain].to(weight), share)


def _plain_name(name: str) -> str:
    """The name of a weight without peft's wrappers."""
    name = name.removeprefix("base_model.model.").replace(".base_layer.", ".")
    return name.replace(".modules_to_save.default.", ".")
