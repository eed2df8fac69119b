"""`LayeredModel`: a decoder with a linear head at several of its layers, as one module that can be trained."""

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
    """What `LayeredModel` returns.

    Attributes:
        logits: ``[rows, layers]``, one score for each layer with a head.
    """

    logits: torch.Tensor


class LayerHead(torch.nn.Module):
    """The head of one layer; its weight has the name that FlagEmbedding gives it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear_head = torch.nn.Linear(width, 1, bias=False)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Scores ``[rows]`` of hidden states ``[rows, width]``."""
        scores: torch.Tensor = self.linear_head(hidden)[:, 0]
        return scores


class LayeredModel(PreTrainedModel):  # type: ignore[misc]
    """A decoder with one linear head per scored layer.

    It is saved as ``model.*`` and ``lm_head.{i}.linear_head.weight``, which `Head.layers` reads by default.

    Args:
        base: a transformers decoder without its output layer, whose layers a `LayerRunner` can run.
        layers: the layers with a head, counted from 1.
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
        """Scores of packed rows at every layer with a head, the deepest last."""
        runner = LayerRunner(self.model)
        state = runner.embed(input_ids, packing, ())
        logits = []
        for layer, head in zip(self.scored_layers, self.lm_head, strict=True):
            runner.advance(state, layer)
            logits.append(soft_cap(head(runner.read(state)), self.softcap))
        return LayeredOutput(torch.stack(logits, dim=1))
