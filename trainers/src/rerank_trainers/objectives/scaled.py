"""An objective with a temperature."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from rerank_trainers.objectives.base import Needs, Objective, require_positive
from rerank_trainers.objectives.step import Step

__all__ = ["Scaled"]


@dataclass(frozen=True)
class Scaled:
    """An objective that reads all scores and similarities divided by a temperature. It is the innermost wrapper: other
    wrappers hold it, and it replaces the temperature of the step.

    Attributes:
        temperature: 1 for logits; about 0.02 for cosines, whose range is small.

    Raises:
        InputError: a temperature that is not above 0.
    """

    inner: Objective
    temperature: float

    def __post_init__(self) -> None:
        require_positive(self.temperature, f"temperature of {self.inner.name}")

    @property
    def name(self) -> str:
        """The name of the objective."""
        return self.inner.name

    @property
    def needs(self) -> Needs:
        return self.inner.needs

    @property
    def shift_invariant(self) -> bool:
        return self.inner.shift_invariant

    def of_step(self, step: Step) -> Tensor:
        return self.inner.of_step(step.scaled(self.temperature))
