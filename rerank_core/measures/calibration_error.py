"""Reliability: how close probabilities are to the shares of relevant documents, and histograms of scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from rerank_core.errors import InputError
from rerank_core.measures.calibration_map import CalibrationMap
from rerank_core.measures.libraries import needed_for

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array: TypeAlias = npt.NDArray[np.float64]

__all__ = ["IDENTITY", "Bar", "Reliability", "Scored", "arrays", "histogram", "reliability", "reliability_of"]

Scored: TypeAlias = Sequence[tuple[float, int]]
"""(raw score, grade) of each document; a grade above 0 is relevant."""

IDENTITY = CalibrationMap("temperature")
"""The sigmoid of the score itself."""


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


def reliability(scored: Scored, calibration: CalibrationMap = IDENTITY, *, bins: int = 10) -> Reliability:
    """Reliability of the calibrated scores; by default of their sigmoid.

    Raises:
        InputError: no documents, or a score that is not finite.
    """
    scores, relevant = arrays(scored)
    return reliability_of([calibration(score) for score in scores.tolist()], relevant, bins=bins)


def reliability_of(probabilities: Sequence[float], relevant: Array, *, bins: int = 10) -> Reliability:
    """Reliability of the probability of each document, in [0, 1]."""
    import numpy as np

    predicted = np.asarray(probabilities, dtype=np.float64)
    bin_of = np.minimum((predicted * bins).astype(int), bins - 1)
    filled = []
    for number in range(bins):
        inside = bin_of == number
        if inside.any():
            filled.append((int(inside.sum()), float(predicted[inside].mean()), float(relevant[inside].mean())))
    error = sum(count * abs(mean - share) for count, mean, share in filled) / len(predicted)
    brier = float(((predicted - relevant) ** 2).mean())
    return Reliability(error, brier, len(predicted), int(relevant.sum()), tuple(filled))


@dataclass(frozen=True)
class Bar:
    """Numbers of documents with a score from ``low`` to ``high``."""

    low: float
    high: float
    irrelevant: int
    relevant: int


def histogram(scored: Scored, *, bins: int = 10) -> list[Bar]:
    """Numbers of documents by label, in score bins of equal width.

    Raises:
        InputError: as `reliability` does.
    """
    import numpy as np

    scores, relevant = arrays(scored)
    low, high = float(scores.min()), float(scores.max())
    # Scores that differ by rounding alone lie in one bin of the width that numpy gives to equal ones.
    if high - low <= bins * 1e-14 * max(abs(low), abs(high)):
        low, high = low - 0.5 * max(1.0, abs(low) * 1e-9), high + 0.5 * max(1.0, abs(high) * 1e-9)
    edges = np.linspace(low / 2, high / 2, bins + 1) * 2  # halves, since the distance may be infinite
    counts = [np.histogram(scores[relevant == label], edges)[0] for label in (0, 1)]
    return [Bar(float(edges[at]), float(edges[at + 1]), int(counts[0][at]), int(counts[1][at])) for at in range(bins)]


def arrays(scored: Scored) -> tuple[Array, Array]:
    """``[documents]`` twice: scores, and 1.0 for relevant documents.

    Raises:
        InputError: no documents, or a score that is not finite.
    """
    with needed_for("calibration and reliability"):
        import numpy as np

    if not len(scored):
        raise InputError("calibration needs scored documents with labels, and got none")
    scores = np.array([score for score, _ in scored], dtype=np.float64)
    if not np.isfinite(scores).all():
        raise InputError("calibration needs finite scores")
    return scores, np.array([grade > 0 for _, grade in scored], dtype=np.float64)
