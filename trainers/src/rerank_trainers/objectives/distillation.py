"""Distillation objectives: learn a teacher's score distribution over the documents of a query, or its margins."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor
from torch.nn import functional

from rerank_core.errors import one_of
from rerank_trainers.objectives.base import GroupObjective, Needs, PaddedGroups, divide_or_zero, require_positive
from rerank_trainers.objectives.pairwise import differences

__all__ = ["KL", "MarginMSE"]

logger = logging.getLogger("rerank_trainers")

# Temperatures for which a one-hot teacher was reported, so that a run logs it once and not at every step.
reported: set[float] = set()


@dataclass(frozen=True)
class MarginMSE(GroupObjective):
    """MarginMSE: squared error of score differences, ``((z_i - z_j) - (t_i - t_j))^2``, mean over pairs of documents.

    Hofstätter et al., *Improving Efficient Neural Ranking Models with Cross-Architecture Knowledge Distillation*, 2020.

    Attributes:
        pairs: ``"all"`` pairs of documents of a query, or only ``"labelled"`` pairs (``y_i > y_j``), as in the paper.

    Raises:
        InputError: another value of ``pairs``.
    """

    pairs: Literal["all", "labelled"] = "all"

    name: ClassVar[str] = "margin_mse"
    shift_invariant: ClassVar[bool] = True

    def __post_init__(self) -> None:
        one_of(self.pairs, ("all", "labelled"), "pairs of margin_mse")

    @property
    def needs(self) -> Needs:
        return Needs(labels=self.pairs == "labelled", scores=True, docs=2, score_differences=True)

    def losses(self, groups: PaddedGroups) -> Tensor:
        both = groups.mask[:, :, None] & groups.mask[:, None, :]
        pairs = both & (differences(groups.labels) > 0) if self.pairs == "labelled" else both.triu(diagonal=1)
        squares = differences(groups.scores - groups.teacher).square()
        return divide_or_zero(squares.masked_fill(~pairs, 0).sum((-2, -1)), pairs.sum((-2, -1)))


@dataclass(frozen=True)
class KL(GroupObjective):
    """KL divergence ``KL(softmax(t / T_t) || softmax(z / T_s)) * T_s^2`` over the documents of each query.

    Hinton et al., *Distilling the Knowledge in a Neural Network*, 2015, with the factor ``T_s^2`` that keeps the size
    of the gradient. There are two temperatures because a teacher's scores and a student's logits rarely have the same
    scale. If the teacher's softmax is one-hot, the scores of the other documents have no effect; the logger
    ``rerank_trainers`` warns of this once per temperature.

    Attributes:
        teacher_temperature: divisor of the teacher's scores.
        student_temperature: divisor of the model's scores.

    Raises:
        InputError: a temperature that is not above 0.
    """

    teacher_temperature: float = 1.0
    student_temperature: float = 1.0

    name: ClassVar[str] = "kl"
    shift_invariant: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_positive(self.teacher_temperature, "teacher_temperature of kl")
        require_positive(self.student_temperature, "student_temperature of kl")

    @property
    def needs(self) -> Needs:
        return Needs(scores=True, docs=2, score_differences=True)

    def losses(self, groups: PaddedGroups) -> Tensor:
        target = groups.log_softmax(groups.teacher / self.teacher_temperature)
        if self.teacher_temperature not in reported:
            self._report(groups, target)
        student = groups.log_softmax(groups.scores / self.student_temperature)
        divergences = functional.kl_div(student, target, reduction="none", log_target=True).sum(-1)
        return divergences * self.student_temperature**2

    def _report(self, groups: PaddedGroups, target: Tensor) -> None:
        probabilities = target.exp().masked_fill(~groups.mask, 0)
        one_hot = (probabilities == 1).any(-1) & (groups.mask.sum(-1) > 1)
        if not one_hot.any():
            return
        reported.add(self.teacher_temperature)
        lead = (
            groups.teacher.masked_fill(~groups.mask, float("-inf"))[one_hot]
            .topk(2, -1)
            .values.diff()
            .abs()
            .min()
            .item()
        )
        logger.warning(
            "kl: the teacher's softmax is one-hot in %d of %d groups (leads of %.3g and more at teacher_temperature %r)"
            ": the scores of the other documents have no effect; raise teacher_temperature, to about %.2g",
            int(one_hot.sum()), len(one_hot), lead, self.teacher_temperature, lead / 4,
        )  # fmt: skip
