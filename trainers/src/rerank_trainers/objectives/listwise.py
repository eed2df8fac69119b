"""Listwise objectives: the softmax over the scores of a query against a distribution derived from labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor
from torch.nn import functional

from rerank_core.errors import InputError, one_of
from rerank_trainers.objectives.base import (
    FLOOR,
    TARGETS,
    GroupObjective,
    Needs,
    PaddedGroups,
    Target,
    divide_or_zero,
    needs_for,
    require_positive,
)

__all__ = ["ListNet", "SoftmaxCE"]


@dataclass(frozen=True)
class SoftmaxCE(GroupObjective):
    """Softmax cross-entropy over the documents of a query; with one positive, InfoNCE as in FlagEmbedding's rerankers.

    With several positives, the target distribution is proportional to their labels. Gao et al., *Rethink Training of
    BERT Rerankers in Multi-Stage Retrieval Pipeline* (LCE), ECIR 2021; van den Oord et al., 2018.

    Attributes:
        multi_positive: ``"share"`` uses the target ``y_d / sum y`` over all positives; ``"each"`` is the mean over
            positives of the loss of one positive against only the negatives, which is the expectation of drawing one
            positive per step.
        target: ``"labels"``, or ``"softmax_of_labels"`` over the positives, as in RAG-Retrieval's listwise_ce.
        max_grade: the grade that a label 1 stands for, for ``softmax_of_labels``, whose result depends on the scale.

    Raises:
        InputError: an unknown value, or two values that exclude each other.
    """

    multi_positive: Literal["share", "each"] = "share"
    target: Literal["labels", "softmax_of_labels"] = "labels"
    max_grade: float = 1.0

    name: ClassVar[str] = "softmax_ce"
    shift_invariant: ClassVar[bool] = True

    def __post_init__(self) -> None:
        one_of(self.multi_positive, ("share", "each"), "multi_positive of softmax_ce")
        one_of(self.target, ("labels", "softmax_of_labels"), "target of softmax_ce")
        require_positive(self.max_grade, "max_grade of softmax_ce")
        if self.multi_positive == "each" and self.target != "labels":
            raise InputError(
                f"softmax_ce has multi_positive='each' and target={self.target!r}; each positive alone has the "
                "target 1, so drop one of the two"
            )

    @property
    def needs(self) -> Needs:
        return Needs(labels=True, docs=2)

    def losses(self, groups: PaddedGroups) -> Tensor:
        positives = groups.relevant
        if self.multi_positive == "each":
            negatives = groups.scores.masked_fill(~groups.mask | positives, FLOOR).logsumexp(-1, keepdim=True)
            against = -functional.logsigmoid(groups.scores - negatives)
            return divide_or_zero(against.masked_fill(~positives, 0).sum(-1), positives.sum(-1))
        if self.target == "softmax_of_labels":
            target = groups.softmax(groups.labels * self.max_grade, among=positives)
        else:
            target = divide_or_zero(groups.labels, groups.labels.sum(-1, keepdim=True))
        return -(target * groups.log_softmax(groups.scores)).sum(-1)


@dataclass(frozen=True)
class ListNet(GroupObjective):
    """ListNet: cross-entropy between the softmax of the labels and that of the scores (top-one probabilities).

    Cao et al., *Learning to Rank: From Pairwise Approach to Listwise Approach*, ICML 2007. A group whose labels are all
    equal gives 0; by the formula the loss would make its scores equal.

    Attributes:
        tau: temperature of the labels; by default 0.1, and 1 for a teacher's order, as in RankGPT. With labels 0 and 1
            and ``tau`` 1, the only positive among eight documents would have a target probability of just 0.28.
        target: ``"labels"``, or ``"teacher"``: the reciprocal ranks of the teacher's scores in place of labels.

    Raises:
        InputError: a temperature that is not above 0, or an unknown target.
    """

    tau: float | None = None
    target: Target = "labels"

    name: ClassVar[str] = "listnet"
    shift_invariant: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.tau is not None:
            require_positive(self.tau, "tau of listnet")
        one_of(self.target, TARGETS, "target of listnet")

    @property
    def needs(self) -> Needs:
        return needs_for(self.target)

    def losses(self, groups: PaddedGroups) -> Tensor:
        tau = self.tau or (0.1 if self.target == "labels" else 1.0)
        relevance = groups.relevance(self.target)
        losses = -(groups.softmax(relevance / tau) * groups.log_softmax(groups.scores)).sum(-1)
        return losses.masked_fill(~groups.has_distinct(relevance), 0)
