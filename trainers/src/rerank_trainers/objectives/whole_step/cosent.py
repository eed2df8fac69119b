"""CoSENT: of two scored pairs of texts, the pair with the higher label must be the more similar one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from rerank_core.errors import InputError, one_of
from rerank_trainers.objectives.base import FLOOR, TARGETS, Needs, Target
from rerank_trainers.objectives.step import Step

__all__ = ["CoSENT"]


@dataclass(frozen=True)
class CoSENT:
    """CoSENT: ``log(1 + sum_{y_i > y_j} e^{(s_j - s_i) / T})`` over all documents of the step with their own queries.

    Huang et al., *CoSENT: Consistent Sentence Embedding via Similarity Ranking*, 2024; CoSENTLoss of
    sentence-transformers. It is for scored pairs of texts, whose labels have one meaning for all queries: documents of
    different queries are compared. The loss belongs to the step as a whole. Every query of the step, in every process,
    has that loss; so the mean over queries is the loss of the step, however it is divided.

    Attributes:
        target: ``"labels"``, or ``"teacher"``: the teacher's scores.

    Raises:
        InputError: an unknown target.
    """

    target: Target = "labels"

    name: ClassVar[str] = "cosent"
    shift_invariant: ClassVar[bool] = True

    def __post_init__(self) -> None:
        one_of(self.target, TARGETS, "target of cosent")

    @property
    def needs(self) -> Needs:
        teacher = self.target == "teacher"
        return Needs(labels=not teacher, scores=teacher, score_differences=teacher, step=True)

    def of_step(self, step: Step) -> Tensor:
        """The step's loss for each group, float32 ``[groups]``.

        Raises:
            InputError: a row of the step has no labels (scores), or the model scores query and document together.
        """
        members = step.all_members()
        values, field = (members.labels, "labels") if self.target == "labels" else (members.teacher, "scores")
        if values is None:
            raise InputError(
                f"this objective reads `{field}`, and the batch has none; every training row must have them"
            )
        with torch.autocast(step.mask.device.type, enabled=False):
            scores = step.comparison.own_all().float() / step.temperature
            return cosent(scores, values.detach().float()).expand(len(step.mask))


def cosent(scores: Tensor, labels: Tensor) -> Tensor:
    """The loss of documents ``[documents]``, without a matrix of pairs: ``sum_i e^{-s_i} sum_{y_j < y_i} e^{s_j}``, in
    logarithms."""
    labels, order = labels.sort(stable=True)
    scores = scores[order]
    lower = torch.searchsorted(labels, labels)
    sums = scores.logcumsumexp(0)
    terms = sums[(lower - 1).clamp(min=0)] - scores
    return functional.softplus(terms.masked_fill(lower == 0, FLOOR).logsumexp(0))
