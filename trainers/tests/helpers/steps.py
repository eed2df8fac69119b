"""A step of padded scores, for objectives that read each query's own documents."""

from __future__ import annotations

import torch
from torch import Tensor

from rerank_trainers.objectives.base import Objective
from rerank_trainers.objectives.step import Scored, Step

__all__ = ["on_groups"]


def on_groups(
    objective: Objective, scores: Tensor, labels: Tensor | None, teacher: Tensor | None, mask: Tensor
) -> Tensor:
    """The losses ``[groups]`` for padded scores ``[groups, docs]`` (``[groups, docs, layers]``)."""
    groups, docs = scores.shape[:2]
    place = torch.arange(groups * docs).view(groups, docs)
    return objective.of_step(Step(Scored(scores.flatten(0, 1)), place, mask, labels, teacher))
