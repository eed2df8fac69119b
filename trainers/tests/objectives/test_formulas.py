"""Every objective equals its formula, written as a loop over documents in float64, in value and in gradient."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from helpers.steps import on_groups
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from rerank_trainers.objectives.base import Objective
from rerank_trainers.objectives.distillation import KL, MarginMSE
from rerank_trainers.objectives.listwise import ListNet, SoftmaxCE
from rerank_trainers.objectives.pairwise import LambdaLoss, RankNet
from rerank_trainers.objectives.pointwise import BCE, MSE
from rerank_trainers.objectives.weighted import weighted_sum

Floats = Sequence[float]
Loop = Callable[[Sequence[Tensor], Floats, Floats], "Tensor | float"]


def softplus(x: Tensor) -> Tensor:
    return torch.log1p(torch.exp(-abs(x))) + x.clamp(min=0)


def softmax(values: Floats) -> list[float]:
    total = sum(math.exp(value) for value in values)
    return [math.exp(value) / total for value in values]


def log_softmax(z: Sequence[Tensor]) -> list[Tensor]:
    total = sum((torch.exp(one) for one in z), start=torch.zeros((), dtype=torch.float64))
    return [one - torch.log(total) for one in z]


def bce(weight: float = 1.0) -> Loop:
    return lambda z, y, t: (
        sum(weight * b * softplus(-a) + (1 - b) * softplus(a) for a, b in zip(z, y, strict=True)) / len(z)
    )


def bce_of_teacher_logits(z: Sequence[Tensor], y: Floats, t: Floats) -> Tensor | float:
    return bce()(z, [1 / (1 + math.exp(-one)) for one in t], t)


def mse(z: Sequence[Tensor], y: Floats, t: Floats) -> Tensor | float:
    return sum((1 / (1 + torch.exp(-a)) - b) ** 2 for a, b in zip(z, y, strict=True)) / len(z)


def mse_of_logits(z: Sequence[Tensor], y: Floats, t: Floats) -> Tensor | float:
    return sum((a - b) ** 2 for a, b in zip(z, t, strict=True)) / len(z)


def ranknet(by_pairs: bool) -> Loop:
    def loop(z: Sequence[Tensor], y: Floats, t: Floats) -> Tensor | float:
        total, weights, pairs = z[0] * 0, 0.0, 0
        for i in range(len(z)):
            for j in range(len(z)):
                if y[i] > y[j]:
                    total = total + (y[i] - y[j]) * softplus(z[j] - z[i])
                    weights += y[i] - y[j]
                    pairs += 1
        return total / ((pairs if by_pairs else weights) or 1)

    return loop


def lambda_loss(k: int | None, gain: Callable[[float], float], mu: float = 10.0, sigma: float = 1.0) -> Loop:
    """Eq. 17 and 18 of Wang et al. 2018, with G of eq. 9: ranks from 1, D of rank r is log2(1 + r)."""

    def loop(z: Sequence[Tensor], y: Floats, t: Floats) -> Tensor | float:
        rank = {doc: place + 1 for place, doc in enumerate(sorted(range(len(z)), key=lambda doc: -z[doc].item()))}
        cut = k or len(z)
        best = sum(gain(one) / math.log2(2 + place) for place, one in enumerate(sorted(y, reverse=True)[:cut]))
        total, pairs = z[0] * 0, 0
        for i in range(len(z)):
            for j in range(len(z)):
                if y[i] > y[j] and min(rank[i], rank[j]) <= cut:
                    far = abs(rank[i] - rank[j])
                    rho = 1 / math.log2(1 + far) - 1 / math.log2(2 + far)
                    swap = abs(1 / math.log2(1 + rank[i]) - 1 / math.log2(1 + rank[j]))
                    change = (mu * rho + swap) * abs(gain(y[i]) - gain(y[j])) / best
                    total = total + change * softplus(sigma * (z[j] - z[i])) / math.log(2)
                    pairs += 1
        return total / (pairs or 1)

    return loop


def softmax_ce(z: Sequence[Tensor], y: Floats, t: Floats) -> Tensor | float:
    if not any(y):
        return 0.0
    return -sum(b / sum(y) * a for a, b in zip(log_softmax(z), y, strict=True))


def each_positive(z: Sequence[Tensor], y: Floats, t: Floats) -> Tensor | float:
    negatives = [a for a, b in zip(z, y, strict=True) if b == 0]
    losses = [-log_softmax([a, *negatives])[0] for a, b in zip(z, y, strict=True) if b > 0]
    return sum(losses) / (len(losses) or 1)


def softmax_of_labels(top: float) -> Loop:
    def loop(z: Sequence[Tensor], y: Floats, t: Floats) -> Tensor | float:
        total = sum(math.exp(top * one) for one in y if one)
        return (
            -sum(math.exp(top * b) / total * a for a, b in zip(log_softmax(z), y, strict=True) if b) if total else 0.0
        )

    return loop


def listnet(tau: float) -> Loop:
    def loop(z: Sequence[Tensor], y: Floats, t: Floats) -> Tensor | float:
        if len(set(y)) == 1:
            return 0.0
        return -sum(p * a for a, p in zip(log_softmax(z), softmax([one / tau for one in y]), strict=True))

    return loop


def margins(labelled: bool) -> Loop:
    def loop(z: Sequence[Tensor], y: Floats, t: Floats) -> Tensor | float:
        chosen = [(i, j) for i in range(len(z)) for j in range(len(z)) if (y[i] > y[j] if labelled else i < j)]
        return sum((z[i] - z[j] - (t[i] - t[j])) ** 2 for i, j in chosen) / (len(chosen) or 1)

    return loop


def kl(teacher: float, student: float) -> Loop:
    def loop(z: Sequence[Tensor], y: Floats, t: Floats) -> Tensor | float:
        target = softmax([one / teacher for one in t])
        mine = log_softmax([one / student for one in z])
        return sum(p * (math.log(p) - a) for p, a in zip(target, mine, strict=True)) * student**2

    return loop


def both(z: Sequence[Tensor], y: Floats, t: Floats) -> Tensor | float:
    return 2 * softmax_ce(z, y, t) + 0.25 * bce()(z, y, t)


FORMULAS: list[tuple[Objective, Loop]] = [
    (BCE(), bce()),
    (BCE(pos_weight=3), bce(3)),
    (BCE(teacher_space="logit"), bce_of_teacher_logits),
    (MSE(), mse),
    (MSE(teacher_space="logit"), mse_of_logits),
    (RankNet(), ranknet(by_pairs=False)),
    (RankNet(normalise="pairs"), ranknet(by_pairs=True)),
    (LambdaLoss(), lambda_loss(None, lambda y: 2**y - 1)),
    (LambdaLoss(k=2, max_grade=3), lambda_loss(2, lambda y: 2 ** (3 * y) - 1)),
    (LambdaLoss(k=3, gain="linear", mu=0, sigma=2), lambda_loss(3, lambda y: y, 0, 2)),
    (SoftmaxCE(), softmax_ce),
    (SoftmaxCE(multi_positive="each"), each_positive),
    (SoftmaxCE(target="softmax_of_labels", max_grade=3), softmax_of_labels(3)),
    (ListNet(), listnet(0.1)),
    (ListNet(tau=1), listnet(1)),
    (MarginMSE(), margins(labelled=False)),
    (MarginMSE(pairs="labelled"), margins(labelled=True)),
    (KL(), kl(1, 1)),
    (KL(teacher_temperature=2.5, student_temperature=0.5), kl(2.5, 0.5)),
    (weighted_sum([(2, SoftmaxCE()), (0.25, BCE())]), both),
]
KINDS = {"binary": 2, "graded": 4, "fractional": 1001}
SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=5)


def ragged(sizes: list[int], kind: str, seed: int) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Scores, labels and teacher of groups of these sizes, in float64 without a value that float32 would round."""
    generator = torch.Generator().manual_seed(seed)
    levels = KINDS[kind]
    return [
        (
            (2 * torch.randn(size, generator=generator)).double(),
            (torch.randint(levels, (size,), generator=generator) / (levels - 1)).double(),
            (2 * torch.randn(size, generator=generator)).double(),
        )
        for size in sizes
    ]


def padded(rows: list[Tensor]) -> Tensor:
    return pad_sequence([row.float() for row in rows], batch_first=True, padding_value=math.nan)


@pytest.mark.parametrize(("objective", "loop"), FORMULAS, ids=[str(objective) for objective, _ in FORMULAS])
@settings(deadline=None, max_examples=25, derandomize=True)
@given(SIZES, st.sampled_from(sorted(KINDS)), st.integers(0, 2**31))
def test_loss_and_gradient_are_those_of_the_formula(
    objective: Objective, loop: Loop, sizes: list[int], kind: str, seed: int
) -> None:
    """On random ragged groups each group's loss, and its gradient, equal the float64 loop's to 1e-6."""
    groups = ragged(sizes, kind, seed)
    scores = padded([z for z, _, _ in groups])
    mask = ~scores.isnan()
    scores.requires_grad_()
    losses = on_groups(objective, scores, padded([y for _, y, _ in groups]), padded([t for _, _, t in groups]), mask)
    losses.sum().backward()

    assert losses.dtype == torch.float32
    assert scores.grad is not None
    for loss, gradient, (z, y, t) in zip(losses.tolist(), scores.grad.double(), groups, strict=True):
        alone = z.clone().requires_grad_()
        expected = loop(list(alone), y.tolist(), t.tolist()) + 0 * alone.sum()
        assert isinstance(expected, Tensor)
        (slope,) = torch.autograd.grad(expected, alone)
        assert loss == pytest.approx(expected.item(), rel=1e-6, abs=1e-6)
        torch.testing.assert_close(gradient[: len(z)], slope, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("objective", "loop"), FORMULAS, ids=[str(objective) for objective, _ in FORMULAS])
def test_gradient_is_the_finite_difference(objective: Objective, loop: Loop) -> None:
    """Moving one score by 1e-5 changes the float64 formula by what our gradient says."""
    ((z, _, t),) = ragged([5], "graded", seed=7)
    y = torch.tensor([1.0, 0.0, 2 / 3, 0.0, 1 / 3])
    scores = z.float()[None].requires_grad_()
    on_groups(objective, scores, y[None], t.float()[None], torch.ones(1, 5, dtype=torch.bool)).sum().backward()

    step = 1e-5
    differences = []
    for doc in range(5):
        moved = step * torch.eye(5, dtype=torch.float64)[doc]
        up, down = (float(loop(list(z + sign * moved), y.double().tolist(), t.tolist())) for sign in (1, -1))
        differences.append((up - down) / (2 * step))
    assert scores.grad is not None
    assert scores.grad[0].tolist() == pytest.approx(differences, abs=2e-6)
