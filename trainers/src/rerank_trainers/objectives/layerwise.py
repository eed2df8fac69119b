"""A score at every layer: how the layers of a model are trained together.

FlagEmbedding's layerwise rerankers (Chen et al., *BGE M3-Embedding*, 2024, and the model card of
bge-reranker-v2-minicpm-layerwise): every layer is trained towards the objective, and towards what the last one says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rerank_core.errors import InputError, short
from rerank_trainers.objectives.base import Needs, Objective, PaddedGroups

__all__ = ["Layerwise"]


@dataclass(frozen=True)
class Layerwise:
    """The mean over layers of an objective, and of ``KL(softmax(last layer) || softmax(layer))`` over each query's
    documents, through whose first half no gradient flows. FlagEmbedding takes the sum over layers of both.

    Attributes:
        inner: the objective of each layer.
        self_distill: weight of the second part.

    Raises:
        InputError: a negative weight.
    """

    inner: Objective
    self_distill: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.self_distill < math.inf:
            raise InputError(f"model.self_distill is {short(self.self_distill)}; it must be 0 or more")

    @property
    def name(self) -> str:
        """That of the objective of each layer."""
        return self.inner.name

    @property
    def needs(self) -> Needs:
        return self.inner.needs

    @property
    def shift_invariant(self) -> bool:
        return self.inner.shift_invariant

    def __call__(self, scores: Tensor, labels: Tensor | None, teacher: Tensor | None, mask: Tensor) -> Tensor:
        """One loss per group, ``[groups]``.

        Args:
            scores: ``[groups, docs, layers]``, the deepest layer last; the rest as for any `Objective`.
        """
        layers = scores.unbind(-1)
        total = torch.stack([self.inner(own, labels, teacher, mask) for own in layers]).mean(0)
        if not self.self_distill:
            return total
        with torch.autocast(scores.device.type, enabled=False):
            last = layers[-1].detach()
            apart = torch.stack([_apart(PaddedGroups(own, None, last, mask)) for own in layers[:-1]] or [total * 0])
            return total + self.self_distill * apart.sum(0) / len(layers)


def _apart(groups: PaddedGroups) -> Tensor:
    """``KL(softmax(teacher) || softmax(scores))``, ``[groups]``."""
    gap = groups.log_softmax(groups.teacher) - groups.log_softmax(groups.scores)
    return (groups.softmax(groups.teacher) * gap).sum(-1)
