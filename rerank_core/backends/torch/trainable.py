"""The methods of a scorer that a trainer calls: inputs for the module, and scores from its output.

The trainer calls the module itself, so that gradients and wrappers such as DistributedDataParallel work. The rows are
those that serving computes.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch

from rerank_core.scorer import Batch

__all__ = ["Trainable"]


@runtime_checkable
class Trainable(Protocol):
    """A scorer whose module can be trained on packed or padded rows.

    Attributes:
        packed: whether packed rows give the same scores as padded ones.
    """

    packed: bool

    def forward_inputs(self, batch: Batch, *, packed: bool) -> dict[str, Any]:
        """Keyword arguments of the module's forward pass for a batch; `scores_from` takes its output."""
        ...

    def scores_from(self, output: Any) -> torch.Tensor:
        """Scores ``[rows]`` in float32, with gradients, from the module's output for `forward_inputs`. If several
        layers have a head, ``[rows, layers]``, the deepest layer last."""
        ...
