"""Pointwise objectives: each document is scored on its own, so that the score itself has a meaning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor
from torch.nn import functional

from rerank_core.errors import InputError, one_of
from rerank_trainers.objectives.base import GroupObjective, Needs, PaddedGroups, require_positive

__all__ = ["BCE", "MSE"]

TeacherSpace = Literal["probability", "logit"]
SPACES = (None, "probability", "logit")


def require_probabilities(values: Tensor, what: str) -> Tensor:
    """Return the values unchanged; a label such as 5 would otherwise be trained on without an error.

    Raises:
        InputError: a value is not in [0, 1].
    """
    wrong = ~((values >= 0) & (values <= 1))
    if wrong.any():
        raise InputError(f"{what} hold {values[wrong][0].item()!r}; this objective needs values from 0 to 1")
    return values


@dataclass(frozen=True)
class BCE(GroupObjective):
    """Binary cross-entropy of the sigmoid, mean over the documents of a query; labels in [0, 1] may be graded.

    Cross-entropy on pairs of query and document: Nogueira & Cho, *Passage Re-ranking with BERT*, 2019. Soft targets:
    Hinton et al., *Distilling the Knowledge in a Neural Network*, 2015.

    Attributes:
        pos_weight: weight of the positive term, as in ``torch.nn.BCEWithLogitsLoss``.
        teacher_space: learn from teacher scores instead of labels: a ``"probability"``, or a ``"logit"`` whose
            sigmoid is the target.

    Raises:
        InputError: an invalid value of an option; when called, a target outside [0, 1].
    """

    pos_weight: float | None = None
    teacher_space: TeacherSpace | None = None

    name: ClassVar[str] = "bce"
    shift_invariant: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.pos_weight is not None:
            require_positive(self.pos_weight, "pos_weight of bce")
        one_of(self.teacher_space, SPACES, "teacher_space of bce")

    @property
    def needs(self) -> Needs:
        from_teacher = self.teacher_space is not None
        return Needs(labels=not from_teacher, scores=from_teacher, score_differences=from_teacher)

    def losses(self, groups: PaddedGroups) -> Tensor:
        if self.teacher_space is None:
            target = require_probabilities(groups.labels, "labels")
        elif self.teacher_space == "logit":
            target = groups.teacher.sigmoid()
        else:
            target = require_probabilities(groups.teacher, "the teacher's scores")
        weight = None if self.pos_weight is None else target.new_tensor(self.pos_weight)
        return groups.mean(
            functional.binary_cross_entropy_with_logits(groups.scores, target, pos_weight=weight, reduction="none")
        )


@dataclass(frozen=True)
class MSE(GroupObjective):
    """Squared error of the sigmoid, mean over the documents of a query (RAG-Retrieval's pointwise_mse; Brier, 1950).

    Attributes:
        teacher_space: learn from teacher scores instead of labels: a ``"probability"`` is compared with the sigmoid of
            the score, a ``"logit"`` with the raw score.

    Raises:
        InputError: an unknown space; when called, a target outside [0, 1], unless it is a logit.
    """

    teacher_space: TeacherSpace | None = None

    name: ClassVar[str] = "mse"
    shift_invariant: ClassVar[bool] = False

    def __post_init__(self) -> None:
        one_of(self.teacher_space, SPACES, "teacher_space of mse")

    @property
    def needs(self) -> Needs:
        from_teacher = self.teacher_space is not None
        return Needs(labels=not from_teacher, scores=from_teacher, score_differences=from_teacher)

    def losses(self, groups: PaddedGroups) -> Tensor:
        if self.teacher_space == "logit":
            return groups.mean((groups.scores - groups.teacher).square())
        if self.teacher_space == "probability":
            target = require_probabilities(groups.teacher, "the teacher's scores")
        else:
            target = require_probabilities(groups.labels, "labels")
        return groups.mean((groups.scores.sigmoid() - target).square())
