"""The methods of a scorer that a trainer calls: inputs for the module, and named tensors from its output.

The trainer calls the module itself, so that gradients and wrappers such as DistributedDataParallel work. The rows are
those that serving computes.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch

from rerank_core.scorer import Batch

__all__ = ["Trainable", "TrainableVectors"]


@runtime_checkable
class Trainable(Protocol):
    """A scorer whose module can be trained on packed or padded rows.

    Attributes:
        packed: whether packed rows give the same scores as padded ones.
    """

    packed: bool

    def forward_inputs(self, batch: Batch, *, packed: bool) -> dict[str, Any]:
        """Keyword arguments of the module's forward pass for a batch; `parts_from` takes its output.

        A scorer of the layout ``separate`` encodes the batch's queries, then its rows, in one forward pass. A row's
        query may be missing in ``batch.queries``, and a query may have no rows.
        """
        ...

    def parts_from(self, output: Any, batch: Batch) -> dict[str, torch.Tensor]:
        """Named tensors in float32, with gradients, from the module's output for `forward_inputs` of the same batch.

        ``scores``: ``[rows]``, of a cross-encoder or language model. ``layers``: ``[rows, layers]``, the deepest layer
        last, of a model with a head at several layers. ``pooled``: ``[queries + rows, width]``, one vector a text, of
        an embedding model. ``vectors``: ``[tokens, width]``, the token vectors of late interaction end to end; their
        numbers are those of `TrainableVectors.vector_counts`.
        """
        ...


@runtime_checkable
class TrainableVectors(Trainable, Protocol):
    """A `Trainable` that encodes query and document separately."""

    def vector_counts(self, batch: Batch) -> tuple[list[int], list[int]]:
        """The number of vectors of each query and of each row in `parts_from`, at least 1: a text without a token that
        has a vector has one zero vector without a gradient."""
        ...
