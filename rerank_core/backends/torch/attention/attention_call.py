"""The options of one attention call, as transformers passes them to an attention function."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

__all__ = ["AttentionCall"]


@dataclass(frozen=True)
class AttentionCall:
    """The options of one attention call.

    Attributes:
        scale: factor of the query-key products; None for ``width ** -0.5``.
        sliding_window: a query attends only to keys less than this number of positions away; None for all keys.
        softcap: products ``x`` become ``softcap * tanh(x / softcap)`` (Gemma 2); None for no cap.
        dropout: probability that an attention weight is dropped, in training.
        bias: ``[1, heads, length, length]``, added to the products of a row of up to ``length`` tokens; it depends only
            on the distance of two positions (T5). None for none.
    """

    scale: float | None = None
    sliding_window: int | None = None
    softcap: float | None = None
    dropout: float = 0.0
    bias: torch.Tensor | None = None

    @classmethod
    def from_kwargs(cls, kwargs: Mapping[str, Any]) -> AttentionCall:
        """From the keyword arguments of a transformers attention function."""
        return cls(
            kwargs.get("scaling"),
            kwargs.get("sliding_window"),
            kwargs.get("softcap"),
            kwargs.get("dropout") or 0.0,
            kwargs.get("position_bias"),
        )

    def scale_for(self, query: torch.Tensor) -> float:
        """The scale for queries ``[..., width]``, the default filled in."""
        return float(query.shape[-1] ** -0.5) if self.scale is None else self.scale
