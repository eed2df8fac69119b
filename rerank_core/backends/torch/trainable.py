"""What a trainer asks of a scorer: it calls the module itself, so that gradients, DistributedDataParallel and the like
see the call, on the very rows that serving makes."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch

from rerank_core.scorer import Batch

__all__ = ["Trainable"]


@runtime_checkable
class Trainable(Protocol):
    """A scorer whose module can be trained on packed or padded rows.

    Attributes:
        packed: whether packed rows were found to give what padded ones do.
    """

    packed: bool

    def forward_inputs(self, batch: Batch, *, packed: bool) -> dict[str, Any]:
        """Keyword arguments of the whole model's forward pass for a batch; `scores_from` reads what it returns."""
        ...

    def scores_from(self, output: Any) -> torch.Tensor:
        """Scores ``[rows]`` in float32, with their gradient, from what the module returned for `forward_inputs`;
        ``[rows, layers]``, the deepest last, where several layers have a score."""
        ...
