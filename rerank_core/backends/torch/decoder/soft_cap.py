"""The cap on final logits that some decoders have (Gemma 2)."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["final_cap", "soft_cap"]


def soft_cap(logits: torch.Tensor, cap: float | None) -> torch.Tensor:
    """``cap * tanh(logits / cap)``, which lies between ``-cap`` and ``cap``; the logits themselves without a cap."""
    return logits if cap is None else torch.tanh(logits / cap) * cap


def final_cap(config: Any) -> float | None:
    """The cap on final logits in a transformers configuration; None where it has none."""
    cap: float | None = getattr(config, "final_logit_softcapping", None)
    return cap
