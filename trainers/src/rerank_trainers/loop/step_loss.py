"""`StepLoss`: the loss of a pass and its gradient with respect to the representations of its texts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch

from rerank_core.backends.torch.trainable import TrainableVectors
from rerank_trainers.errors import NonFiniteLossError
from rerank_trainers.loop.callbacks import Spread
from rerank_trainers.loop.comparison import comparison_of
from rerank_trainers.loop.gather import Texts, share
from rerank_trainers.loop.passes import Pass
from rerank_trainers.model.trained_model import Model
from rerank_trainers.objectives.base import Objective
from rerank_trainers.objectives.step import Step

__all__ = ["StepLoss"]

Tensors: TypeAlias = Mapping[str, torch.Tensor]


class StepLoss:
    """Computes losses from representations that are already computed.

    Args:
        whole: the objective compares all texts of a step, over all processes.
        rank, world: number of this process, and number of processes.

    Attributes:
        spread: collects how far the scores of a query's documents lie apart.
    """

    def __init__(
        self, model: Model, objective: Objective, *, whole: bool, device: torch.device, rank: int, world: int
    ) -> None:
        self.model, self.objective = model, objective
        self.whole, self.device, self.rank, self.world = whole, device, rank, world
        self.spread = Spread()

    def __call__(self, part: Pass, parts: Tensors, *, at: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The weighted sum of the losses of a pass, one loss per group, and its gradient with respect to ``parts``.

        Args:
            parts: representations of the texts by name; see `Trainable.parts_from`.
            at: number of the step, for messages.

        Raises:
            NonFiniteLossError: names the rows.
        """
        step, leaves, own = self._read(part, parts)
        if step is None:
            own({name: torch.zeros_like(leaf) for name, leaf in leaves.items()})  # every process exchanges gradients
            return torch.zeros((), device=self.device), {name: torch.zeros_like(one) for name, one in parts.items()}
        losses = self.objective.of_step(step)
        if not bool(torch.isfinite(losses).all()):
            raise self._not_finite(part, losses, step.comparison.own(), at)
        with torch.no_grad():
            scores = step.scores()
        # The deepest layer, whose score ranks, is last.
        self.spread.add(scores if scores.dim() == 2 else scores[..., -1], step.mask)
        total = (losses * part.weights.to(self.device)).sum()
        found = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
        gradients = {
            name: torch.zeros_like(leaf) if gradient is None else gradient
            for (name, leaf), gradient in zip(leaves.items(), found, strict=True)
        }
        return total.detach(), own(gradients)

    def _read(
        self, part: Pass, parts: Tensors
    ) -> tuple[Step | None, Tensors, Callable[[Tensors], dict[str, torch.Tensor]]]:
        """The step that the objective reads, the leaves of its graph, and a function from their gradients to those of
        ``parts``. No step for a filler row, which must not be compared with the rows of other processes."""
        labels, teacher = (None if one is None else one.to(self.device) for one in (part.labels, part.teacher))
        place, mask, scorer = part.place.to(self.device), part.mask.to(self.device), self.model.scorer
        if not isinstance(scorer, TrainableVectors):
            leaves = {name: values.detach().requires_grad_() for name, values in parts.items()}
            return Step(comparison_of(leaves), place, mask, labels, teacher, floor=part.groups[0].floor), leaves, dict
        filler = self.whole and not bool(part.weights.any())
        texts = Texts() if filler else part.texts(*scorer.vector_counts(part.batch))
        parts = {name: values[:0] if filler else values for name, values in parts.items()}
        shared = share(parts, texts, rank=self.rank, world=self.world if self.whole else 1)
        step = Step(
            comparison_of(shared.parts, shared.counts, mean=self.model.averages),
            place,
            mask,
            labels,
            teacher,
            members=shared.counts.members,
            temperature=self.model.kind.temperature(self.model.spec),
            floor=part.groups[0].floor,
        )
        return None if filler else step, shared.parts, shared.own

    def _not_finite(self, part: Pass, losses: torch.Tensor, scores: torch.Tensor, at: int) -> NonFiniteLossError:
        bad = [id_ for id_, loss in zip(part.ids, losses.tolist(), strict=True) if not math.isfinite(loss)]
        return NonFiniteLossError(
            f"at step {at} the loss of the rows {', '.join(bad[:8])} is not finite; its scores range from "
            f"{scores.min().item()!r} to {scores.max().item()!r}. Lower train.learning_rate, or look at these rows "
            "with `rerank train check`"
        )
