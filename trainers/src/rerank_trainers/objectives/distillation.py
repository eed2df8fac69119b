"""Learning from a teacher's scores, query by query: its distribution, or its margins."""

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

# The temperatures whose teachers were already reported, so that a run says it once and not at every step.
reported: set[float] = set()


@dataclass(frozen=True)
class MarginMSE(GroupObjective):
    """Squared error of score differences, ``((z_i - z_j) - (t_i - t_j))^2``, mean over the pairs.

    Hofstätter et al., *Improving Efficient Neural Ranking Models with Cross-Architecture Knowledge Distillation*, 2020.

    Attributes:
        pairs: ``"all"`` pairs of a query's documents, or the ``"labelled"`` ones with ``y_i > y_j``, as in the paper.

    Raises:
        InputError: other pairs.
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
    """``KL(softmax(t / T_t) || softmax(z / T_s)) * T_s^2`` over each query's own documents.

    Hinton et al., *Distilling the Knowledge in a Neural Network*, 2015 (hence the square, which keeps gradients of one
    size); two temperatures because a teacher's scores and a student's logits rarely have one scale. A teacher so sure
    that its softmax is one-hot teaches no more than a label: said once per temperature, through the logger
    ``rerank_trainers``.

    Attributes:
        teacher_temperature: the teacher's scores are divided by it.
        student_temperature: the model's scores are divided by it.

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
        sure = (probabilities == 1).any(-1) & (groups.mask.sum(-1) > 1)
        if not sure.any():
            return
        reported.add(self.teacher_temperature)
        lead = (
            groups.teacher.masked_fill(~groups.mask, float("-inf"))[sure].topk(2, -1).values.diff().abs().min().item()
        )
        logger.warning(
            "kl: the teacher's softmax is one-hot in %d of %d groups (leads of %.3g and more at teacher_temperature %r)"
            ": the other documents' scores teach nothing; raise teacher_temperature, to about %.2g",
            int(sure.sum()), len(sure), lead, self.teacher_temperature, lead / 4,
        )  # fmt: skip
