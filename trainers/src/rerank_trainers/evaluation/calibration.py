"""Calibration: how close the sigmoid of a score is to the probability of relevance, and fits that bring it closer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from rerank_core import InputError

__all__ = [
    "IDENTITY",
    "Bar",
    "Reliability",
    "Scaling",
    "Scored",
    "fold",
    "histogram",
    "platt",
    "reliability",
    "temperature",
]

# (raw score, grade) of each document; a grade above 0 is relevant.
Scored: TypeAlias = Sequence[tuple[float, int]]
_Array: TypeAlias = npt.NDArray[np.float64]

_STEPS = 100


@dataclass(frozen=True)
class Scaling:
    """A scale and offset for every score; the scale is positive, so that ranks do not change.

    >>> Scaling(2.0, -1.0)(3.0)
    5.0

    Raises:
        InputError: a scale that is not positive, or numbers that are not finite.
    """

    scale: float = 1.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        if not (np.isfinite(self.scale) and np.isfinite(self.offset) and self.scale > 0):
            raise InputError(
                f"scores times {self.scale!r} plus {self.offset!r} would change the order of documents; the scale must "
                "be positive. Scores that fall with relevance cannot be calibrated: look at the dev set's labels"
            )

    def __call__(self, score: float) -> float:
        return self.scale * score + self.offset


IDENTITY = Scaling()


@dataclass(frozen=True)
class Reliability:
    """How well predicted probabilities match the labels.

    Attributes:
        ece: expected calibration error: the mean distance, over bins of equal width weighted by their documents,
            between the mean probability and the share of relevant documents (Naeini et al., 2015).
        brier: mean square of probability minus relevance (Brier, 1950).
        documents, relevant: number of documents, and of relevant ones.
        bins: for each non-empty bin (documents, mean probability, share of relevant documents).
    """

    ece: float
    brier: float
    documents: int
    relevant: int
    bins: tuple[tuple[int, float, float], ...]


def reliability(scored: Scored, scaling: Scaling = IDENTITY, *, bins: int = 10) -> Reliability:
    """Reliability of the sigmoid of the scaled scores.

    Raises:
        InputError: no documents, or a score that is not finite.
    """
    scores, relevant = _arrays(scored)
    probabilities = _sigmoid(scaling.scale * scores + scaling.offset)
    bin_of = np.minimum((probabilities * bins).astype(int), bins - 1)
    filled = []
    for number in range(bins):
        inside = bin_of == number
        if inside.any():
            filled.append((int(inside.sum()), float(probabilities[inside].mean()), float(relevant[inside].mean())))
    error = sum(count * abs(predicted - actual) for count, predicted, actual in filled) / len(scores)
    brier = float(((probabilities - relevant) ** 2).mean())
    return Reliability(error, brier, len(scores), int(relevant.sum()), tuple(filled))


def platt(scored: Scored) -> Scaling:
    """The scale and offset whose sigmoid fits the labels best (Platt, 1999). His targets lie inside (0, 1), so that the
    scale stays finite if the scores separate the labels perfectly.

    Raises:
        InputError: all labels equal, all scores equal, or relevant documents score lower on average.
    """
    scores, targets, centre, spread = _problem(scored)
    # Newton's method on the convex loss; a step that does not descend is halved (Lin, Lin & Weng, 2007).
    design = np.stack([(scores - centre) / spread, np.ones_like(scores)], axis=1)
    scale, offset = _newton(design, targets)
    return Scaling(float(scale / spread), float(offset - scale * centre / spread))


def temperature(scored: Scored) -> Scaling:
    """The best scale without offset (Guo et al., 2017): 1 / temperature. A score of 0 stays a probability of 0.5.

    Raises:
        InputError: as `platt` does.
    """
    scores, targets, _, spread = _problem(scored)
    (scale,) = _newton((scores / spread)[:, None], targets)
    return Scaling(float(scale / spread))


def fold(module: Any, scaling: Scaling) -> None:
    """Write a scaling into the last layer of a classifier, in place. Exact, and valid in every library that loads it.

    Raises:
        InputError: not exactly one linear layer with one output, or a layer without bias.
    """
    import torch

    heads = [part for part in module.modules() if isinstance(part, torch.nn.Linear) and part.out_features == 1]
    if len(heads) != 1:
        raise InputError(
            f"calibrate needs the one layer that makes the score, and this {type(module).__name__} has {len(heads)} "
            "layers with one output; publish with calibrate=False"
        )
    (head,) = heads
    if head.bias is None:
        raise InputError(
            f"calibrate: the last layer of this {type(module).__name__} has no bias that could take the offset "
            f"{scaling.offset:.4g}; publish with calibrate=False, and apply scale and offset to the scores"
        )
    with torch.no_grad():
        head.weight.mul_(scaling.scale)
        head.bias.mul_(scaling.scale).add_(scaling.offset)


@dataclass(frozen=True)
class Bar:
    """Numbers of documents with a score from ``low`` to ``high``."""

    low: float
    high: float
    irrelevant: int
    relevant: int


def histogram(scored: Scored, scaling: Scaling = IDENTITY, *, bins: int = 10) -> list[Bar]:
    """Numbers of documents by label, in score bins of equal width.

    Raises:
        InputError: as `reliability` does.
    """
    scores, relevant = _arrays(scored)
    scores = scaling.scale * scores + scaling.offset
    edges = np.histogram_bin_edges(scores, bins)
    counts = [np.histogram(scores[relevant == label], edges)[0] for label in (0, 1)]
    return [Bar(float(edges[at]), float(edges[at + 1]), int(counts[0][at]), int(counts[1][at])) for at in range(bins)]


def _arrays(scored: Scored) -> tuple[_Array, _Array]:
    if not len(scored):
        raise InputError("calibration needs scored documents with labels, and got none")
    scores = np.array([score for score, _ in scored], dtype=np.float64)
    if not np.isfinite(scores).all():
        raise InputError("calibration needs finite scores")
    return scores, np.array([grade > 0 for _, grade in scored], dtype=np.float64)


def _problem(scored: Scored) -> tuple[_Array, _Array, float, float]:
    """Scores, targets, and mean and standard deviation of the scores, by which the fit normalises them."""
    scores, relevant = _arrays(scored)
    positives = float(relevant.sum())
    negatives = len(relevant) - positives
    if not positives or not negatives:
        raise InputError(
            f"calibration needs relevant and irrelevant documents, and {int(positives)} of {len(scores)} are relevant"
        )
    spread = float(scores.std())
    if spread <= 1e-12 * max(1.0, float(np.abs(scores).max())):
        raise InputError(f"calibration: all {len(scores)} scores are {float(scores[0])!r}; there is nothing to fit")
    if scores[relevant == 1].mean() <= scores[relevant == 0].mean():
        raise InputError(
            "calibration: relevant documents score no higher than irrelevant ones on average, so a fit would reverse "
            "the order of documents; train longer, or look at the dev set's labels"
        )
    targets = np.where(relevant == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    return scores, targets, float(scores.mean()), spread


def _newton(design: _Array, targets: _Array) -> _Array:
    """Weights ``[features]`` of a logistic regression without intercept."""
    weights = np.zeros(design.shape[1])
    loss = _cross_entropy(design @ weights, targets)
    for _ in range(_STEPS):
        probabilities = _sigmoid(design @ weights)
        gradient = design.T @ (probabilities - targets)
        curvature = (design * (probabilities * (1 - probabilities))[:, None]).T @ design
        step = np.linalg.solve(curvature + 1e-12 * len(targets) * np.eye(len(weights)), gradient)
        size = 1.0
        while size > 1e-10 and not (better := _cross_entropy(design @ (weights - size * step), targets)) <= loss:
            size /= 2
        if size <= 1e-10:
            break
        weights, fallen, loss = weights - size * step, loss - better, better
        if fallen <= 1e-14 * abs(loss):
            break
    return weights


def _cross_entropy(logits: _Array, targets: _Array) -> float:
    return float((np.logaddexp(0, logits) - targets * logits).sum())


def _sigmoid(logits: _Array) -> _Array:
    return np.exp(-np.logaddexp(0, -logits))
