"""Objectives of order towards a teacher's order: the formulas in plain loops, ties, padding, and what is not read."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from rerank_core import InputError
from rerank_trainers.objectives.base import Needs, Objective
from rerank_trainers.objectives.listwise import ListNet
from rerank_trainers.objectives.pairwise import LambdaLoss, RankNet

SCORES = [[0.3, -1.2, 2.0, 0.1], [0.5, 0.4, -0.2, 9.0]]
TEACHER = [[-2.0, -1.0, -4.0, -3.0], [7.5, 1.0, 7.5, math.nan]]
MASK = [[True, True, True, True], [True, True, True, False]]


def relevance(teacher: Sequence[float]) -> list[float]:
    """One over the rank; equal scores share the better rank."""
    return [1 / (1 + sum(other > own for other in teacher)) for own in teacher]


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def ranknet(z: Sequence[float], t: Sequence[float]) -> float:
    """Sun et al. 2023: the sum over pairs in the teacher's order, here their mean."""
    found = [softplus(z[j] - z[i]) for i in range(len(z)) for j in range(len(z)) if t[i] > t[j]]
    return sum(found) / len(found)


def listnet(tau: float) -> Callable[[Sequence[float], Sequence[float]], float]:
    def loop(z: Sequence[float], t: Sequence[float]) -> float:
        target = [math.exp(one / tau) for one in relevance(t)]
        total = math.log(sum(map(math.exp, z)))
        return -sum(p / sum(target) * (a - total) for a, p in zip(z, target, strict=True))

    return loop


def tensors(requires_grad: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    scores = torch.tensor(SCORES, requires_grad=requires_grad)
    return scores, torch.tensor(TEACHER), torch.tensor(MASK)


@pytest.mark.parametrize(
    ("objective", "loop"),
    [
        (RankNet(target="teacher"), ranknet),
        (RankNet(target="teacher", normalise="pairs"), ranknet),
        (ListNet(target="teacher"), listnet(1.0)),
        (ListNet(target="teacher", tau=0.2), listnet(0.2)),
    ],
)
def test_orders_give_the_formulas_by_hand(
    objective: Objective, loop: Callable[[Sequence[float], Sequence[float]], float]
) -> None:
    """Groups of four and of three with a tie; what lies in the padding, NaN included, counts for nothing."""
    scores, teacher, mask = tensors()
    losses = objective(scores, None, teacher, mask)

    expected = [loop(SCORES[0], TEACHER[0]), loop(SCORES[1][:3], TEACHER[1][:3])]
    assert losses.tolist() == pytest.approx(expected, rel=1e-5)


def test_lambda_of_an_order_is_that_of_reciprocal_ranks() -> None:
    """The gains are those of labels 1, 1/2, 1/3, ... in the teacher's order."""
    scores, teacher, mask = tensors()
    labels = torch.tensor([relevance(TEACHER[0]), [*relevance(TEACHER[1][:3]), 0.0]])

    expected = LambdaLoss(k=2)(scores, labels, None, mask)
    assert LambdaLoss(k=2, target="teacher")(scores, None, teacher, mask).tolist() == pytest.approx(expected.tolist())


@pytest.mark.parametrize(
    "objective", [RankNet(target="teacher"), LambdaLoss(target="teacher"), ListNet(target="teacher")]
)
def test_only_the_order_is_read(objective: Objective) -> None:
    """Ranks, logits and probabilities in one order give one loss; labels are not read; ties alone teach nothing."""
    scores, teacher, mask = tensors(requires_grad=True)
    clean = teacher.masked_fill(~mask, 0)
    losses = objective(scores, None, teacher, mask)

    for other in (clean * 3 + 100, clean.sigmoid().double(), clean.exp()):
        assert objective(scores, torch.rand(2, 4), other.float(), mask).tolist() == losses.tolist()
    assert objective.needs == Needs(scores=True, docs=2)
    assert not objective.needs.score_differences
    tied = objective(scores, None, torch.full((2, 4), 5.0), mask)
    assert tied.tolist() == [0, 0]
    tied.sum().backward()
    assert scores.grad is not None
    assert scores.grad.tolist() == [[0] * 4] * 2
    with pytest.raises(InputError, match="reads `scores`"):
        objective(scores, torch.rand(2, 4), None, mask)


@pytest.mark.parametrize("kind", [RankNet, LambdaLoss, ListNet])
def test_another_target_is_refused(kind: Callable[..., Objective]) -> None:
    """The message names the objective and both targets."""
    with pytest.raises(InputError, match=r"target of \w+ is 'ranks'; it must be one of 'labels', 'teacher'"):
        kind(target="ranks")
