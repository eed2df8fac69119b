"""An objective with a temperature."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from rerank_trainers.objectives.base import require_positive
from rerank_trainers.objectives.step import Step
from rerank_trainers.objectives.wrapper import Wrapper

__all__ = ["Scaled"]


@dataclass(frozen=True)
class Scaled(Wrapper):
    """An objective that reads all scores and similarities divided by a temperature. It is the innermost wrapper: other
    wrappers hold it, and it replaces the temperature of the step.

    Attributes:
        temperature: 1 for logits; about 0.02 for cosines, whose range is small.

    Raises:
        InputError: a temperature that is not above 0.
    """

    temperature: float

    def __post_init__(self) -> None:
        require_positive(self.temperature, f"temperature of {self.inner.name}")

    def of_step(self, step: Step) -> Tensor:
        return self.inner.of_step(step.scaled(self.temperature))
