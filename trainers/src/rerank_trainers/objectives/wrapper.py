"""The base class of objectives that change the step which another objective reads."""

from __future__ import annotations

from dataclasses import dataclass

from rerank_trainers.objectives.base import Needs, Objective

__all__ = ["Wrapper"]


@dataclass(frozen=True)
class Wrapper:
    """Has the name and the properties of the objective inside."""

    inner: Objective

    @property
    def name(self) -> str:
        """The name of the objective inside."""
        return self.inner.name

    @property
    def needs(self) -> Needs:
        return self.inner.needs

    @property
    def shift_invariant(self) -> bool:
        return self.inner.shift_invariant
