"""The interface of objectives: one loss per query, for groups of documents in padded tensors."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar, Literal, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

from rerank_core.errors import InputError, short
from rerank_trainers.objectives.required_data import Needs
from rerank_trainers.objectives.step import Step

__all__ = [
    "TARGETS",
    "GroupObjective",
    "Needs",
    "Objective",
    "PaddedGroups",
    "Target",
    "divide_or_zero",
    "needs_for",
    "require_positive",
]

Target: TypeAlias = Literal["labels", "teacher"]
"""Which targets rank the documents: their labels, or the order of a teacher's scores."""
TARGETS = ("labels", "teacher")

# Used as minus infinity: its exponential is 0 beside any score, and a softmax over such values alone is not NaN.
FLOOR = -1e30


def needs_for(target: Target) -> Needs:
    """The needs of an objective that compares documents by labels or by a teacher's order."""
    return Needs(labels=target == "labels", scores=target == "teacher", docs=2)


@runtime_checkable
class Objective(Protocol):
    """A pure function of scores and targets, with the properties that a trainer reads before calling it."""

    @property
    def name(self) -> str:
        """The name in configurations and model cards."""
        ...

    @property
    def needs(self) -> Needs:
        """The targets that rows must have; checked before a model is loaded."""
        ...

    @property
    def shift_invariant(self) -> bool:
        """Whether adding a constant to the scores of a group leaves the loss unchanged.

        The bias of the score head is then not trained: its gradient is rounding noise, which Adam would turn into steps
        of the full learning rate.
        """
        ...

    def of_step(self, step: Step) -> Tensor:
        """One loss per group of the step, float32 ``[groups]``; a group without signal gives 0 with a gradient.

        Raises:
            InputError: a target is missing or out of range, or the model does not give what the objective reads.
        """
        ...


class PaddedGroups:
    """Padded groups of documents: values as float32, and 0 in place of padding (which may be NaN)."""

    def __init__(
        self, scores: Tensor, labels: Tensor | None, teacher: Tensor | None, mask: Tensor, floor: float = 0.0
    ) -> None:
        for what, value in (("labels", labels), ("teacher", teacher), ("mask", mask)):
            if value is not None and (scores.dim() != 2 or value.shape != scores.shape):
                raise InputError(
                    f"{what} has the shape {tuple(value.shape)} and scores {tuple(scores.shape)}; "
                    "both must be [groups, docs]"
                )
        if mask.dtype != torch.bool:
            raise InputError(f"mask is {mask.dtype}; it must be torch.bool, True where there is a document")
        if not scores.is_floating_point():
            raise InputError(f"scores are {scores.dtype}; they must be the model's logits, of a float type")
        self.mask = mask
        self.scores = scores.float().masked_fill(~mask, 0)
        self._labels = labels
        self._teacher = teacher
        self._floor = floor

    @property
    def labels(self) -> Tensor:
        """The labels, ``[groups, docs]``."""
        return self._target(self._labels, "labels")

    @property
    def relevant(self) -> Tensor:
        """Whether the label of a document is above that of an irrelevant one, bool ``[groups, docs]``."""
        return (self.labels > self._floor) & self.mask

    @property
    def teacher(self) -> Tensor:
        """The teacher scores, ``[groups, docs]``."""
        return self._target(self._teacher, "scores")

    def relevance(self, target: Target) -> Tensor:
        """The relevance of each document: its label, or the reciprocal of its rank by the teacher's scores within the
        group (1, 1/2, 1/3, ...; equal scores share the better rank), as in RankGPT's distillation."""
        if target == "labels":
            return self.labels
        teacher = self.teacher
        better = (teacher[:, None, :] > teacher[:, :, None]) & self.mask[:, None, :]
        return (1 / (1.0 + better.sum(-1))).masked_fill(~self.mask, 0)

    def _target(self, values: Tensor | None, field: str) -> Tensor:
        if values is None:
            raise InputError(
                f"this objective reads `{field}`, and the batch has none; every training row must have them"
            )
        return values.detach().float().masked_fill(~self.mask, 0)

    def mean(self, values: Tensor) -> Tensor:
        """The mean over each group's documents, ``[groups]``; 0 for a group without documents."""
        return divide_or_zero(values.masked_fill(~self.mask, 0).sum(-1), self.mask.sum(-1))

    def log_softmax(self, values: Tensor, among: Tensor | None = None) -> Tensor:
        """Log-softmax over each group's documents, or over those in the mask ``among``; 0 for all others."""
        among = self.mask if among is None else among
        return values.masked_fill(~among, FLOOR).log_softmax(-1).masked_fill(~among, 0)

    def softmax(self, values: Tensor, among: Tensor | None = None) -> Tensor:
        """Softmax over each group's documents, or over those in the mask ``among``; 0 for all others."""
        among = self.mask if among is None else among
        return values.masked_fill(~among, FLOOR).softmax(-1).masked_fill(~among, 0)

    def has_distinct(self, values: Tensor) -> Tensor:
        """Whether the documents of a group have different values, bool ``[groups]``."""
        highest = values.masked_fill(~self.mask, -math.inf).amax(-1)
        return highest > values.masked_fill(~self.mask, math.inf).amin(-1)


class GroupObjective(ABC):
    """Base class of the objectives that read the scores of each query's own documents: checks its inputs, computes in
    float32, and calls `losses`."""

    name: ClassVar[str]
    shift_invariant: ClassVar[bool]

    @property
    @abstractmethod
    def needs(self) -> Needs:
        """The targets that rows must have."""

    @abstractmethod
    def losses(self, groups: PaddedGroups) -> Tensor:
        """One loss per group, ``[groups]``, differentiable in ``groups.scores``."""

    def of_step(self, step: Step) -> Tensor:
        return self(step.scores(), step.labels, step.teacher, step.mask, floor=step.floor)

    def __call__(
        self, scores: Tensor, labels: Tensor | None, teacher: Tensor | None, mask: Tensor, *, floor: float = 0.0
    ) -> Tensor:
        """One loss per group, float32 ``[groups]``; a group without signal gives 0 with a gradient.

        Args:
            scores: scores of the model ``[groups, docs]``, of any float type; the loss is computed in float32, also
                under autocast.
            labels: labels in [0, 1], ``[groups, docs]``.
            teacher: teacher scores, ``[groups, docs]``.
            mask: bool ``[groups, docs]``, True where there is a document; values elsewhere are ignored.
            floor: the label of an irrelevant document.

        Raises:
            InputError: a target is missing or out of range, or shapes differ.
        """
        with torch.autocast(scores.device.type, enabled=False):
            return self.losses(PaddedGroups(scores, labels, teacher, mask, floor))


def divide_or_zero(total: Tensor, count: Tensor) -> Tensor:
    """``total / count``; where the count is 0 (and so is the total), a 0 with a gradient."""
    return total / count.masked_fill(count == 0, 1)


def require_positive(value: object, what: str) -> None:
    """Raise InputError unless ``value`` is a finite number above 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise InputError(f"{what} is {short(value)}; it must be a number above 0")
