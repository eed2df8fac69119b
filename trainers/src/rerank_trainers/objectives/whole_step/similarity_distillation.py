"""Distillation of similarities: the similarities of the step's texts must be the teacher's, in value or in order.

The vectors may be of another width than the teacher's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from rerank_core.errors import InputError, short
from rerank_trainers.objectives.base import Needs, divide_or_zero, require_positive
from rerank_trainers.objectives.step import Members, Side, Step
from rerank_trainers.objectives.whole_step.blocks import in_blocks
from rerank_trainers.objectives.whole_step.embedding_distillation import group_mean, vectors_of_teacher

__all__ = ["SimilarityDistillation", "SimilarityOrder"]

_SIDES: tuple[Side, ...] = ("query", "document")
_PAIRS = 1024  # pairs of vectors in memory at a time
_NEEDS = Needs(step=True, vectors=True, teacher_vectors=True)


@dataclass(frozen=True)
class SimilarityDistillation:
    """Squared difference from the teacher's cosine, mean over all texts of the step, then over the texts of a group.

    The second loss of Zhang et al., *Jasper and Stella: distillation of SOTA embedding models*, 2024. The mean over
    queries is the mean over the matrix of all texts if groups are of one size. A few rows of the matrix are in memory
    at a time.
    """

    name: ClassVar[str] = "similarity_distill"
    shift_invariant: ClassVar[bool] = True

    @property
    def needs(self) -> Needs:
        return _NEEDS

    def of_step(self, step: Step) -> Tensor:
        """One loss per group, float32 ``[groups]``.

        Raises:
            InputError: no vectors of a teacher, or a model without one vector per text.
        """
        members = step.all_members()
        teacher = _teacher(members)
        own = {"query": members.own_queries, "document": members.own_documents}

        def row_losses(left: Side) -> Tensor:
            def losses(some: Tensor) -> Tensor:
                mine = teacher[left][some + own[left].start]
                squares = [
                    (step.comparison.between(left, right, some).float() - mine @ teacher[right].T).square().sum(1)
                    for right in teacher
                ]
                return torch.stack(squares).sum(0) / sum(map(len, teacher.values()))

            return in_blocks(losses, len(own[left]), step.mask.device)

        with torch.autocast(step.mask.device.type, enabled=False):
            return group_mean(step, {side: row_losses(side) for side in teacher})


@dataclass(frozen=True)
class SimilarityOrder:
    """Hinge loss ``max(0, margin - (c_i - c_j))`` of two pairs of texts whose cosines the teacher ranks ``t_i > t_j``.

    The third loss of Zhang et al., *Jasper and Stella*, 2024, whose code compares all pairs of pairs: memory grows with
    the fourth power of the texts. Here pairs are drawn from all texts of the step, by a random generator whose seed
    comes from the texts, so that the same step always has the same pairs. The loss is the mean over compared pairs;
    pairs that are equal for the teacher are left out. As in `CoSENT`, every query of the step has the step's loss.

    Attributes:
        margin: margin of the hinge.
        pairs: number of drawn pairs of texts; all pairs if there are no more.
        comparisons: number of other pairs that a pair is compared with; all if there are no more.

    Raises:
        InputError: an invalid value of an option.
    """

    margin: float = 0.015
    pairs: int = 8192
    comparisons: int = 64

    name: ClassVar[str] = "similarity_order"
    shift_invariant: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_positive(self.margin, f"margin of {self.name}")
        for option, value, least in (("pairs", self.pairs, 2), ("comparisons", self.comparisons, 1)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InputError(f"{option} of {self.name} is {short(value)}; it must be an integer from {least}")

    @property
    def needs(self) -> Needs:
        return _NEEDS

    def of_step(self, step: Step) -> Tensor:
        """The step's loss for each group, float32 ``[groups]``.

        Raises:
            InputError: no vectors of a teacher, or a model without one vector per text.
        """
        members = step.all_members()
        teacher = _teacher(members)
        with torch.autocast(step.mask.device.type, enabled=False):
            first, second = self._drawn(members, teacher)
            mine = {side: functional.normalize(step.comparison.all_vectors(side).float(), dim=-1) for side in teacher}
            cosines, target = (
                in_blocks(_products(torch.cat(list(vectors.values())), first, second), len(first), first.device, _PAIRS)
                for vectors in (mine, teacher)
            )
            return self._hinge(cosines, target).expand(len(step.mask))

    def _drawn(self, members: Members, teacher: dict[Side, Tensor]) -> Tensor:
        """Positions of two texts each, ``[2, pairs]``, among all queries followed by all documents."""
        texts = {"query": members.query_texts, "document": members.document_texts}
        # By their texts, because processes hold the step in an order of their own.
        order = torch.cat([
            texts[side].argsort(stable=True) + sum(len(teacher[before]) for before in list(teacher)[:number])
            for number, side in enumerate(teacher)
        ])  # fmt: skip
        count = len(order)
        if count * (count - 1) // 2 <= self.pairs:
            return order[torch.triu_indices(count, count, 1, device=order.device)]
        seed = sum(int(texts[side].sum()) * factor for side, factor in zip(teacher, (1, 3), strict=False))
        generator = torch.Generator().manual_seed(seed % 2**63)
        first = torch.randint(count, (self.pairs,), generator=generator)
        second = (first + torch.randint(1, count, (self.pairs,), generator=generator)) % count
        return order[torch.stack([first, second]).to(order.device)]

    def _hinge(self, cosines: Tensor, target: Tensor) -> Tensor:
        """The mean over the compared pairs, a scalar; 0 if the teacher does not distinguish any."""
        count = len(cosines)
        steps = torch.arange(1, min(self.comparisons, count - 1) + 1, device=cosines.device)
        other = (torch.arange(count, device=cosines.device) + steps[:, None]) % count
        differences = target[other] - target
        order = differences.sign() + differences * 0  # the sign of NaN is 0, which would hide it
        losses = functional.relu(self.margin - order * (cosines[other] - cosines)) * order.abs()
        return divide_or_zero(losses.sum(), order.abs().sum())


def _products(vectors: Tensor, first: Tensor, second: Tensor) -> Callable[[Tensor], Tensor]:
    """The products of some pairs of vectors."""
    return lambda some: (vectors[first[some]] * vectors[second[some]]).sum(-1)


def _teacher(members: Members) -> dict[Side, Tensor]:
    """The teacher's vectors of all queries and documents, of length 1, by side.

    Raises:
        InputError: there are none.
    """
    vectors = vectors_of_teacher(members)
    return {side: functional.normalize(vectors[side].detach().float(), dim=-1) for side in _SIDES if side in vectors}
