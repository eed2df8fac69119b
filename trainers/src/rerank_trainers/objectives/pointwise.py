"""Each document on its own: what a score means does not depend on the other documents of its query."""

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
    """The values themselves; a label 5 would train without a complaint, towards nothing (training.md §0.5).

    Raises:
        InputError: a value that is not from 0 to 1.
    """
    wrong = ~((values >= 0) & (values <= 1))
    if wrong.any():
        raise InputError(f"{what} hold {values[wrong][0].item()!r}; this objective needs values from 0 to 1")
    return values


@dataclass(frozen=True)
class BCE(GroupObjective):
    """Binary cross-entropy of the sigmoid, mean over a group's documents; labels may be graded or a teacher's.

    Cross-entropy on pairs of query and document: Nogueira & Cho, *Passage Re-ranking with BERT*, 2019. Soft targets:
    Hinton et al., *Distilling the Knowledge in a Neural Network*, 2015.

    Attributes:
        pos_weight: what relevance counts more than its absence, as in ``torch.nn.BCEWithLogitsLoss``.
        teacher_space: learn from the teacher's scores instead of labels: they are a ``"probability"``, or a
            ``"logit"`` whose sigmoid is one.

    Raises:
        InputError: an option that cannot be; on the call, a target that is no probability.
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
        taught = self.teacher_space is not None
        return Needs(labels=not taught, scores=taught, score_differences=taught)

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
    """Squared error of the sigmoid, mean over a group's documents (RAG-Retrieval's pointwise_mse; Brier, 1950).

    Attributes:
        teacher_space: learn from the teacher's scores instead of labels: a ``"probability"`` is compared with the
            sigmoid, a ``"logit"`` with the raw score.

    Raises:
        InputError: an unknown space; on the call, a target that is no probability where it must be one.
    """

    teacher_space: TeacherSpace | None = None

    name: ClassVar[str] = "mse"
    shift_invariant: ClassVar[bool] = False

    def __post_init__(self) -> None:
        one_of(self.teacher_space, SPACES, "teacher_space of mse")

    @property
    def needs(self) -> Needs:
        taught = self.teacher_space is not None
        return Needs(labels=not taught, scores=taught, score_differences=taught)

    def losses(self, groups: PaddedGroups) -> Tensor:
        if self.teacher_space == "logit":
            return groups.mean((groups.scores - groups.teacher).square())
        if self.teacher_space == "probability":
            target = require_probabilities(groups.teacher, "the teacher's scores")
        else:
            target = require_probabilities(groups.labels, "labels")
        return groups.mean((groups.scores.sigmoid() - target).square())
