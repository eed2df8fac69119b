"""Pairs of documents: the better one of each must score higher."""

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
    """``values[i] - values[j]`` of every two documents of a group, ``[groups, docs, docs]``."""
    return values[:, :, None] - values[:, None, :]


@dataclass(frozen=True)
class RankNet(GroupObjective):
    """The logistic loss of each pair with ``y_i > y_j``, weighted by how far apart their labels are.

    ``sum w_ij softplus(z_j - z_i) / sum w_ij`` with ``w_ij = y_i - y_j``. Burges et al., *Learning to Rank using
    Gradient Descent*, ICML 2005; the weights are RAG-Retrieval's.

    Attributes:
        normalise: the sum is divided by the ``"weights"``, or by the number of ``"pairs"`` (RAG-Retrieval divides by
            that of the whole batch, so that there a query counts more the more documents it has).
        target: the documents' ``"labels"``, or the order of a ``"teacher"``'s scores, all of whose pairs count alike
            (Sun et al., *Is ChatGPT Good at Search?*, 2023).

    Raises:
        InputError: another way to normalise, or another target.
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
        apart = differences(groups.relevance(self.target)).clamp(min=0)
        weights = (apart if self.target == "labels" else (apart > 0).float()) * pairs
        total = -(weights * functional.logsigmoid(differences(groups.scores))).sum((-2, -1))
        divisor = weights if self.normalise == "weights" else weights > 0
        return divide_or_zero(total, divisor.sum((-2, -1)))


@dataclass(frozen=True)
class LambdaLoss(GroupObjective):
    """NDCG-Loss2++: RankNet whose pairs count by what swapping them would change in NDCG; mean over the pairs.

    Wang et al., *The LambdaLoss Framework for Ranking Metric Optimization*, CIKM 2018. Of equal scores the less
    relevant document ranks first, so that the order of the documents in the data cannot matter.

    Attributes:
        k: NDCG@k: only pairs with a document that the model ranks among its first ``k``.
        gain: what a grade is worth, ``"exponential"`` ``2^g - 1`` or ``"linear"`` ``g``.
        max_grade: the grade of a label 1; the gain is that of ``g = max_grade * y``.
        mu: how much NDCG-Loss2 counts beside LambdaRank; 0 is LambdaRank alone.
        sigma: how steep the logistic function is.
        target: the documents' ``"labels"``, or the order of a ``"teacher"``'s scores, where ``y`` is one over the rank.

    Raises:
        InputError: an option that cannot be.
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
        worth = groups.relevance(self.target)
        order = rank_documents(groups, worth)
        mask, scores, labels = (values.gather(-1, order) for values in (groups.mask, groups.scores, worth))
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
        # 2^g - 1, written so that the small grades of a teacher do not drown in the 1.
        return grades if self.gain == "linear" else torch.expm1(grades * math.log(2))

    def _swaps(self, discounts: Tensor, positions: Tensor) -> Tensor:
        """``mu`` times NDCG-Loss2's change of discount (it knows the distance of two ranks), and LambdaRank's."""
        distance = (positions[:, None] - positions[None, :]).abs()
        falls = torch.cat([discounts.new_zeros(1), discounts[:-1] - discounts[1:]])
        return self.mu * falls[distance] + (discounts[:, None] - discounts[None, :]).abs()


def rank_documents(groups: PaddedGroups, worth: Tensor) -> Tensor:
    """Each group's documents, best score first; of equal scores the least relevant first, padding last."""
    by_label = worth.argsort(dim=-1, stable=True)
    scores = groups.scores.detach().masked_fill(~groups.mask, -math.inf).gather(-1, by_label)
    return by_label.gather(-1, scores.argsort(dim=-1, descending=True, stable=True))
