"""A causal model with a linear head at several of its layers, as one module: what is trained, and what is adapted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

from rerank_core.backends.torch.attention.causal_packing import CausalPacking
from rerank_core.backends.torch.decoder.layer_runner import LayerRunner
from rerank_core.backends.torch.decoder.soft_cap import final_cap, soft_cap

__all__ = ["LayeredModel", "LayeredOutput"]


@dataclass
class LayeredOutput:
    """``logits`` are ``[rows, layers]``."""

    logits: torch.Tensor


class LayerHead(torch.nn.Module):
    """The head of one layer, under the tensor name that FlagEmbedding gives it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear_head = torch.nn.Linear(width, 1, bias=False)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """``[rows]`` of ``[rows, width]``."""
        found: torch.Tensor = self.linear_head(hidden)[:, 0]
        return found


class LayeredModel(PreTrainedModel):  # type: ignore[misc]
    """Saves ``model.*`` and ``lm_head.{i}.linear_head.weight``, which `Head.layers` reads by default.

    Args:
        base: a transformers decoder without its output layer, whose layers a `LayerRunner` can run.
        layers: with a score, by count of layers run.
    """

    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True

    def __init__(self, base: Any, layers: range) -> None:
        super().__init__(base.config)
        self.model = base
        self.scored_layers = tuple(layers)
        self.lm_head = torch.nn.ModuleList(LayerHead(base.config.hidden_size) for _ in layers)
        self.lm_head.to(device=base.device, dtype=base.dtype)
        self.softcap = final_cap(base.config)
        self._no_split_modules = getattr(base, "_no_split_modules", None)

    def forward(self, input_ids: torch.Tensor, packing: CausalPacking) -> LayeredOutput:
        """Scores of packed rows at every layer that has one, the deepest last."""
        stack = LayerRunner(self.model)
        running = stack.embed(input_ids, packing, ())
        found = []
        for layer, head in zip(self.scored_layers, self.lm_head, strict=True):
            stack.advance(running, layer)
            found.append(soft_cap(head(stack.read(running)), self.softcap))
        return LayeredOutput(torch.stack(found, dim=1))
