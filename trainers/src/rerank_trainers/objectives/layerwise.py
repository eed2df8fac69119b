"""The objective of models with a score at every layer.

As in FlagEmbedding's layerwise rerankers (Chen et al., *BGE M3-Embedding*, 2024, and the model card of
bge-reranker-v2-minicpm-layerwise), every layer learns from the objective and from the scores of the last layer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rerank_core.errors import InputError, short
from rerank_trainers.objectives.base import PaddedGroups
from rerank_trainers.objectives.step import Scored, Step
from rerank_trainers.objectives.wrapper import Wrapper

__all__ = ["Layerwise"]


@dataclass(frozen=True)
class Layerwise(Wrapper):
    """The mean over layers of an objective plus ``self_distill * KL(softmax(last layer) || softmax(layer))`` over the
    documents of each query; no gradient flows into the last layer's softmax. FlagEmbedding sums over layers instead.

    Attributes:
        inner: the objective applied to each layer.
        self_distill: weight of the KL divergence.

    Raises:
        InputError: a negative weight.
    """

    self_distill: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.self_distill < math.inf:
            raise InputError(f"model.self_distill is {short(self.self_distill)}; it must be 0 or more")

    def of_step(self, step: Step) -> Tensor:
        """One loss per group, ``[groups]``; the scores of the step are ``[groups, docs, layers]``, the deepest layer
        last."""
        own = step.comparison.own()
        steps = [replace(step, comparison=Scored(layer)) for layer in own.unbind(-1)]
        total = torch.stack([self.inner.of_step(one) for one in steps]).mean(0)
        if not self.self_distill:
            return total
        with torch.autocast(own.device.type, enabled=False):
            layers = [one.scores() for one in steps]
            last = layers[-1].detach()
            divergences = [_kl(PaddedGroups(layer, None, last, step.mask)) for layer in layers[:-1]] or [total * 0]
            return total + self.self_distill * torch.stack(divergences).sum(0) / len(layers)


def _kl(groups: PaddedGroups) -> Tensor:
    """``KL(softmax(teacher) || softmax(scores))``, ``[groups]``."""
    difference = groups.log_softmax(groups.teacher) - groups.log_softmax(groups.scores)
    return (groups.softmax(groups.teacher) * difference).sum(-1)
