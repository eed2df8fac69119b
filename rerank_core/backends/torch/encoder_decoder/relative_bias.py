"""Relative position bias for packed rows: computed for the longest row of a batch instead of for all of its tokens.

T5's attention adds a learned number for each distance of two tokens, the same in every layer (Raffel et al., *Exploring
the Limits of Transfer Learning with a Unified Text-to-Text Transformer*, 2020). transformers computes it for all
positions of its input, which for packed rows would be a square of the whole batch. The numbers depend on the distance
alone, so those of the longest row contain those of every row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from rerank_core.backends.torch.attention.packing import Packing

__all__ = ["bias_per_row", "has_relative_bias"]


def has_relative_bias(module: torch.nn.Module) -> bool:
    """Whether a module adds a learned bias to attention, as T5 does."""
    return any(True for _ in _layers(module))


def bias_per_row(module: torch.nn.Module) -> None:
    """Let a module compute its bias for the longest row where rows are packed. Its ``forward`` without a packing does
    not change."""
    for layer in _layers(module):
        layer.forward = _forward(layer, layer.forward)


def _layers(module: torch.nn.Module) -> Any:
    """The attention layers that may compute a bias."""
    return (part for part in module.modules() if hasattr(part, "compute_bias"))


def _forward(layer: Any, original: Callable[..., Any]) -> Callable[..., Any]:
    def forward(hidden_states: torch.Tensor, *args: Any, packing: Packing | None = None, **kwargs: Any) -> Any:
        if packing is None:
            return original(hidden_states, *args, **kwargs)
        if kwargs.get("position_bias") is None:
            # The one token of a decoder row needs no bias: all its keys would get the same one.
            if layer.has_relative_attention_bias and not layer.is_decoder:
                longest = max(packing.lengths)
                kwargs["position_bias"] = layer.compute_bias(longest, longest)
            else:
                kwargs["position_bias"] = hidden_states.new_zeros((1, 1, 1, 1))
        return original(hidden_states, *args, packing=packing, **kwargs)

    return forward
