"""What an objective is: one loss per query, of ragged groups of documents laid out as padded tensors."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar, Literal, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

from rerank_core.errors import InputError, short
from rerank_trainers.objectives.required_data import Needs

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
"""What says which document is better: its label, or the order of a teacher's scores."""
TARGETS = ("labels", "teacher")

# Stands for minus infinity: its exponential is 0 beside any score, and a group of nothing else still has no NaN.
FLOOR = -1e30


def needs_for(target: Target) -> Needs:
    """Of an objective that compares documents by labels or by a teacher's order."""
    return Needs(labels=target == "labels", scores=target == "teacher", docs=2)


@runtime_checkable
class Objective(Protocol):
    """A pure function of scores and targets, with what a trainer has to know before it can call it."""

    @property
    def name(self) -> str:
        """How configurations and model cards spell it."""
        ...

    @property
    def needs(self) -> Needs:
        """What the rows must bring; checked before a model is loaded."""
        ...

    @property
    def shift_invariant(self) -> bool:
        """Adding a constant to a group's scores changes nothing, so the bias of the head must not be trained.

        Its gradient is rounding noise, which Adam turns into steps of the full learning rate.
        """
        ...

    def __call__(self, scores: Tensor, labels: Tensor | None, teacher: Tensor | None, mask: Tensor) -> Tensor:
        """One loss per group, float32 ``[groups]``; a group without signal gives a 0 that is part of the graph.

        Args:
            scores: the model's raw logits ``[groups, docs]``, of any float type; computed in float32, autocast or not.
            labels: ``[groups, docs]``, from 0 to 1.
            teacher: ``[groups, docs]``, a teacher's scores.
            mask: bool ``[groups, docs]``, True where there is a document. Whatever lies elsewhere counts for nothing.

        Raises:
            InputError: a target is missing, out of range, or shapes differ.
        """
        ...


class PaddedGroups:
    """Ragged groups made safe: float32, and 0 where there is no document (whatever lay there, NaN included)."""

    def __init__(self, scores: Tensor, labels: Tensor | None, teacher: Tensor | None, mask: Tensor) -> None:
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

    @property
    def labels(self) -> Tensor:
        """What each document is worth, ``[groups, docs]``."""
        return self._target(self._labels, "labels")

    @property
    def teacher(self) -> Tensor:
        """The teacher's scores, ``[groups, docs]``."""
        return self._target(self._teacher, "scores")

    def relevance(self, target: Target) -> Tensor:
        """What each document is worth: its label, or one over its rank by the teacher's scores among the group's
        documents (1, 1/2, 1/3, ...; equal scores share the better rank), as RankGPT's students learn from orders."""
        if target == "labels":
            return self.labels
        teacher = self.teacher
        better = (teacher[:, None, :] > teacher[:, :, None]) & self.mask[:, None, :]
        return (1 / (1.0 + better.sum(-1))).masked_fill(~self.mask, 0)

    def _target(self, values: Tensor | None, field: str) -> Tensor:
        if values is None:
            raise InputError(
                f"this objective reads `{field}`, and the batch has none; every training row must bring them"
            )
        return values.detach().float().masked_fill(~self.mask, 0)

    def mean(self, values: Tensor) -> Tensor:
        """The mean over each group's documents, ``[groups]``; 0 for a group without any."""
        return divide_or_zero(values.masked_fill(~self.mask, 0).sum(-1), self.mask.sum(-1))

    def log_softmax(self, values: Tensor, among: Tensor | None = None) -> Tensor:
        """Of each group's documents (``among`` some of them, where given); 0 for all others."""
        among = self.mask if among is None else among
        return values.masked_fill(~among, FLOOR).log_softmax(-1).masked_fill(~among, 0)

    def softmax(self, values: Tensor, among: Tensor | None = None) -> Tensor:
        """Of each group's documents (``among`` some of them, where given); 0 for all others."""
        among = self.mask if among is None else among
        return values.masked_fill(~among, FLOOR).softmax(-1).masked_fill(~among, 0)

    def has_distinct(self, values: Tensor) -> Tensor:
        """Whether a group's documents have more than one value, bool ``[groups]``."""
        highest = values.masked_fill(~self.mask, -math.inf).amax(-1)
        return highest > values.masked_fill(~self.mask, math.inf).amin(-1)


class GroupObjective(ABC):
    """What every objective here shares: checks, float32 and padding, around a formula."""

    name: ClassVar[str]
    shift_invariant: ClassVar[bool]

    @property
    @abstractmethod
    def needs(self) -> Needs:
        """What the rows must bring."""

    @abstractmethod
    def losses(self, groups: PaddedGroups) -> Tensor:
        """One loss per group, ``[groups]``, a function of ``groups.scores``."""

    def __call__(self, scores: Tensor, labels: Tensor | None, teacher: Tensor | None, mask: Tensor) -> Tensor:
        with torch.autocast(scores.device.type, enabled=False):
            return self.losses(PaddedGroups(scores, labels, teacher, mask))


def divide_or_zero(total: Tensor, count: Tensor) -> Tensor:
    """``total / count``; where the count is 0, so is the total, and a 0 with a gradient comes back."""
    return total / count.masked_fill(count == 0, 1)


def require_positive(value: object, what: str) -> None:
    """Raise InputError where ``value`` is not a finite number above 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise InputError(f"{what} is {short(value)}; it must be a number above 0")
