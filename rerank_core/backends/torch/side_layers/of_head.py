"""`side_layers_of`: the layers that a head has beside its encoder, loaded from a checkpoint folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from rerank_core.backends.torch.side_layers.projection import load_projection
from rerank_core.backends.torch.side_layers.score_layers import load_score_layers, load_text_layers
from rerank_core.spec import Head
from rerank_core.spec.untrusted_files import reading

__all__ = ["side_layers_of"]


def side_layers_of(encoder: Any, directory: Path, head: Head) -> torch.nn.Module | None:
    """The layers on the encoder's device, in eval mode; None for a head without any.

    Args:
        encoder: a transformers module.
        directory: the checkpoint folder; with an adapter, the base model's.

    Raises:
        CheckpointError: weights that are missing or of a shape that does not fit.
    """
    width, device = encoder.config.hidden_size, encoder.device
    with reading(directory):
        if head.kind == "dense":
            return load_score_layers(directory, head.modules, width, device=device)
        if head.kind == "cosine" and head.modules:
            return load_text_layers(directory, head.modules, width, device=device)[0]
        if head.vectors is not None:
            return load_projection(directory, head.vectors.projection, width, device=device, dtype=encoder.dtype)
    return None
