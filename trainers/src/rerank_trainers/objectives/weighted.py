"""The weighted sum of several objectives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_

from torch import Tensor

from rerank_core.errors import InputError, short
from rerank_trainers.objectives.base import Needs, Objective, require_positive
from rerank_trainers.objectives.step import Step

__all__ = ["Weighted", "weighted_sum"]


@dataclass(frozen=True)
class Weighted:
    """The weighted sum of objectives for each query. It needs the targets of all of them.

    Attributes:
        parts: ``(weight, objective)``, at least one.

    Raises:
        InputError: no parts, a weight that is not above 0, or a part that is not an objective.
    """

    parts: tuple[tuple[float, Objective], ...]

    def __post_init__(self) -> None:
        if not self.parts:
            raise InputError("a sum of objectives has no terms; give at least one (weight, objective)")
        for part in self.parts:
            if not (isinstance(part, tuple) and len(part) == 2 and isinstance(part[1], Objective)):
                raise InputError(f"{short(part)} is not a term of a sum of objectives; it must be (weight, objective)")
            require_positive(part[0], f"the weight of {part[1].name}")

    @property
    def name(self) -> str:
        """Such as ``softmax_ce + 0.1*bce``."""
        return " + ".join(part.name if weight == 1 else f"{weight:g}*{part.name}" for weight, part in self.parts)

    @property
    def needs(self) -> Needs:
        return reduce(or_, (part.needs for _, part in self.parts))

    @property
    def shift_invariant(self) -> bool:
        return all(part.shift_invariant for _, part in self.parts)

    def of_step(self, step: Step) -> Tensor:
        first, *others = (weight * part.of_step(step) for weight, part in self.parts)
        return sum(others, start=first)


def weighted_sum(parts: Sequence[tuple[float, Objective]]) -> Weighted:
    """The weighted sum of objectives, such as ``weighted_sum([(1.0, SoftmaxCE()), (0.1, BCE())])``.

    Raises:
        InputError: no parts, a weight that is not above 0, or a part that is not an objective.
    """
    return Weighted(tuple(parts))
