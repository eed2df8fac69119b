"""Pairwise objectives: of two documents of a query, the more relevant one must score higher."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from rerank_core.errors import InputError, one_of, short
from rerank_trainers.objectives.base import (
    TARGETS,
    GroupObjective,
    Needs,
    PaddedGroups,
    Target,
    divide_or_zero,
    needs_for,
    require_positive,
)

__all__ = ["LambdaLoss", "RankNet", "differences"]


def differences(values: Tensor) -> Tensor:
    """``values[i] - values[j]`` for all pairs of documents of a group, ``[groups, docs, docs]``."""
    return values[:, :, None] - values[:, None, :]


@dataclass(frozen=True)
class RankNet(GroupObjective):
    """RankNet: logistic loss of each pair with ``y_i > y_j``, weighted by the difference of the labels.

    ``sum w_ij softplus(z_j - z_i) / sum w_ij`` with ``w_ij = y_i - y_j``. Burges et al., *Learning to Rank using
    Gradient Descent*, ICML 2005; the weights are RAG-Retrieval's.

    Attributes:
        normalise: divide the sum by the sum of the ``"weights"``, or by the number of ``"pairs"`` (RAG-Retrieval
            divides by the pairs of the whole batch, which gives queries with more documents more weight).
        target: ``"labels"``, or ``"teacher"``: the order of the teacher's scores, in which all pairs have equal weight
            (Sun et al., *Is ChatGPT Good at Search?*, 2023).

    Raises:
        InputError: an unknown ``normalise`` or target.
    """

    normalise: Literal["weights", "pairs"] = "weights"
    target: Target = "labels"

    name: ClassVar[str] = "ranknet"
    shift_invariant: ClassVar[bool] = True

    def __post_init__(self) -> None:
        one_of(self.normalise, ("weights", "pairs"), "normalise of ranknet")
        one_of(self.target, TARGETS, "target of ranknet")

    @property
    def needs(self) -> Needs:
        return needs_for(self.target)

    def losses(self, groups: PaddedGroups) -> Tensor:
        pairs = groups.mask[:, :, None] & groups.mask[:, None, :]
        gaps = differences(groups.relevance(self.target)).clamp(min=0)
        weights = (gaps if self.target == "labels" else (gaps > 0).float()) * pairs
        total = -(weights * functional.logsigmoid(differences(groups.scores))).sum((-2, -1))
        divisor = weights if self.normalise == "weights" else weights > 0
        return divide_or_zero(total, divisor.sum((-2, -1)))


@dataclass(frozen=True)
class LambdaLoss(GroupObjective):
    """LambdaLoss (NDCG-Loss2++): RankNet with pairs weighted by the change in NDCG if they swap; mean over pairs.

    Wang et al., *The LambdaLoss Framework for Ranking Metric Optimization*, CIKM 2018. Of equal scores the less
    relevant document ranks first, so that the order of the documents in the data cannot matter.

    Attributes:
        k: cutoff of NDCG@k: only pairs with a document among the model's first ``k`` count; None uses all.
        gain: gain of a grade ``g``: ``"exponential"`` ``2^g - 1`` or ``"linear"`` ``g``.
        max_grade: the grade that a label 1 stands for: ``g = max_grade * y``.
        mu: weight of NDCG-Loss2 beside LambdaRank; 0 gives LambdaRank.
        sigma: slope of the logistic function.
        target: ``"labels"``, or ``"teacher"``: ``y`` is the reciprocal rank by the teacher's scores.

    Raises:
        InputError: an invalid value of an option.
    """

    k: int | None = None
    gain: Literal["exponential", "linear"] = "exponential"
    max_grade: float = 1.0
    mu: float = 10.0
    sigma: float = 1.0
    target: Target = "labels"

    name: ClassVar[str] = "lambda"
    shift_invariant: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.k is not None and (isinstance(self.k, bool) or not isinstance(self.k, int) or self.k < 1):
            raise InputError(
                f"k of lambda is {short(self.k)}; it must be a positive integer, or None for all documents"
            )
        one_of(self.gain, ("exponential", "linear"), "gain of lambda")
        require_positive(self.max_grade, "max_grade of lambda")
        require_positive(self.sigma, "sigma of lambda")
        if self.mu != 0:
            require_positive(self.mu, "mu of lambda")
        one_of(self.target, TARGETS, "target of lambda")

    @property
    def needs(self) -> Needs:
        return needs_for(self.target)

    def losses(self, groups: PaddedGroups) -> Tensor:
        relevance = groups.relevance(self.target)
        order = rank_documents(groups, relevance)
        mask, scores, labels = (values.gather(-1, order) for values in (groups.mask, groups.scores, relevance))
        docs = scores.shape[-1]
        positions = torch.arange(docs, device=scores.device)
        discounts = 1 / torch.log2(2.0 + positions)
        ideal = self._gains(labels).sort(-1, descending=True).values
        best = (ideal * discounts)[:, : self.k].sum(-1)
        gains = divide_or_zero(self._gains(labels), best[:, None])
        weights = differences(gains).abs() * self._swaps(discounts, positions)

        pairs = mask[:, :, None] & mask[:, None, :] & (differences(labels) > 0)
        if self.k is not None:
            pairs &= (positions[:, None] < self.k) | (positions[None, :] < self.k)
        losses = -weights * functional.logsigmoid(self.sigma * differences(scores)) / math.log(2)
        return divide_or_zero(losses.masked_fill(~pairs, 0).sum((-2, -1)), pairs.sum((-2, -1)))

    def _gains(self, labels: Tensor) -> Tensor:
        grades = labels * self.max_grade
        # 2^g - 1, computed by expm1, which is accurate for the small grades of a teacher.
        return grades if self.gain == "linear" else torch.expm1(grades * math.log(2))

    def _swaps(self, discounts: Tensor, positions: Tensor) -> Tensor:
        """Change of the discount by a swap: ``mu`` times NDCG-Loss2's, which depends on the distance of the two ranks,
        plus LambdaRank's."""
        distance = (positions[:, None] - positions[None, :]).abs()
        falls = torch.cat([discounts.new_zeros(1), discounts[:-1] - discounts[1:]])
        return self.mu * falls[distance] + (discounts[:, None] - discounts[None, :]).abs()


def rank_documents(groups: PaddedGroups, relevance: Tensor) -> Tensor:
    """The documents of each group by descending score; of equal scores the least relevant first, padding last."""
    by_label = relevance.argsort(dim=-1, stable=True)
    scores = groups.scores.detach().masked_fill(~groups.mask, -math.inf).gather(-1, by_label)
    return by_label.gather(-1, scores.argsort(dim=-1, descending=True, stable=True))
