"""Matryoshka: an objective for several widths of the same vectors."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from rerank_core.errors import InputError, short
from rerank_trainers.objectives.base import Objective, require_positive
from rerank_trainers.objectives.scaled import Scaled
from rerank_trainers.objectives.step import Step
from rerank_trainers.objectives.weighted import Weighted, weighted_sum
from rerank_trainers.objectives.whole_step.stella import Stella
from rerank_trainers.objectives.wrapper import Wrapper

__all__ = ["Matryoshka"]


@dataclass(frozen=True)
class Matryoshka(Wrapper):
    """The weighted mean of an objective over widths: it reads the first values of each vector, scaled to length 1.

    Kusupati et al., *Matryoshka Representation Learning*, 2022. sentence-transformers sums over the widths, so its loss
    is larger by their number. Objectives that need the teacher's width (`embed_distill`, and the first loss of
    `stella`) read whole vectors once, with their full weight.

    Attributes:
        inner: the objective.
        dims: widths, none above the model's.
        weights: of the widths, equal by default and if empty; they are divided by their sum.

    Raises:
        InputError: invalid widths or weights, or an objective that reads whole vectors only.
    """

    dims: tuple[int, ...]
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        dims = self.dims
        if (
            not isinstance(dims, list | tuple)
            or not dims
            or any(isinstance(width, bool) or not isinstance(width, int) or width < 1 for width in dims)
            or len(set(dims)) < len(dims)
        ):
            raise InputError(f"the widths of matryoshka are {short(dims)}; they must be different positive integers")
        weights = self.weights if self.weights not in (None, (), []) else [1.0] * len(dims)
        if not isinstance(weights, list | tuple) or len(weights) != len(dims):
            raise InputError(
                f"the weights of matryoshka are {short(weights)}, and it has {len(dims)} widths; give one weight each"
            )
        for width, weight in zip(dims, weights, strict=True):
            require_positive(weight, f"the weight of the width {width} of matryoshka")
        # Lists come from a configuration.
        object.__setattr__(self, "dims", tuple(dims))
        object.__setattr__(self, "weights", tuple(weight / sum(weights) for weight in weights))
        if all(part.needs.teacher_width for _, part in parts_of(self.inner)):
            raise InputError(
                f"matryoshka has no effect on {self.inner.name!r}, which needs vectors of the teacher's width; leave "
                "it out, or add an objective such as similarity_distill"
            )

    def of_step(self, step: Step) -> Tensor:
        """One loss per group, ``[groups]``.

        Raises:
            InputError: a width above that of the model's vectors, or a model that scores query and document together.
        """
        parts = parts_of(self.inner)
        cut = weighted_sum([part for part in parts if not part[1].needs.teacher_width])
        losses = [
            weight * cut.of_step(step.truncated(width))
            for width, weight in zip(self.dims, self.weights or (), strict=True)
        ]
        losses += [weight * part.of_step(step) for weight, part in parts if part.needs.teacher_width]
        return sum(losses[1:], start=losses[0])


def parts_of(objective: Objective) -> list[tuple[float, Objective]]:
    """The terms of a sum of objectives with their weights; an objective that is no sum is one term."""
    if isinstance(objective, Scaled):
        return [(weight, Scaled(part, objective.temperature)) for weight, part in parts_of(objective.inner)]
    if isinstance(objective, Weighted | Stella):
        return [(weight * inner, part) for weight, term in objective.parts for inner, part in parts_of(term)]
    return [(1.0, objective)]
