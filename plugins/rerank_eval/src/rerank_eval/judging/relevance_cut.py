"""From the raw scores of a reranker to labels: 1 from a cut on, else 0."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from rerank_core import InputError
from rerank_core.measures import platt
from rerank_eval.judging.judge import Judge

__all__ = ["ScoredPairs", "grades_of_scores"]

# Labelled pairs of each kind that a fit needs.
_FEWEST = 10
_FOLDS = 5
# Number of the query, and position of the candidate.
_Place: TypeAlias = tuple[int, int]


@dataclass(frozen=True)
class ScoredPairs:
    """The labels that follow from scores.

    Attributes:
        grades: 1 or 0 of each pair.
        held_out: the same for pairs with a hand-made label, from a cut that was fitted to other queries; for comparing
            both.
        cut: the score from which a pair is relevant.
        origin: where the cut comes from.
    """

    grades: Mapping[_Place, float]
    held_out: Mapping[_Place, float]
    cut: float
    origin: str


def grades_of_scores(
    scores: Mapping[_Place, float], labels: Mapping[_Place, float | None], judge: Judge
) -> ScoredPairs:
    """Labels of pairs by their scores.

    The cut is a probability of 0.5: of the judge's calibration, or else after Platt's fit to the hand-made labels where
    they are enough, or else of the model itself.

    Raises:
        InputError: there are few labels, and the model's scores are no probability.
    """
    if judge.is_calibrated and judge.cut is not None:
        grades = _graded(scores, judge.cut)
        return ScoredPairs(grades, grades, judge.cut, "a calibrated probability of 0.5")
    given = [label for label in labels.values() if label is not None]
    top = max(given, default=1.0) or 1.0
    relevant = {place: label >= top / 2 for place, label in labels.items() if label is not None and place in scores}
    counts = [sum(kind is value for value in relevant.values()) for kind in (True, False)]
    if min(counts) >= _FEWEST:
        cut = _fitted(scores, relevant)
        folds = sorted({place[0] for place in relevant})
        held_out: dict[_Place, float] = {}
        for fold in range(_FOLDS):
            own = set(folds[fold::_FOLDS])
            fold_cut = _fitted(scores, {place: value for place, value in relevant.items() if place[0] not in own}, cut)
            held_out.update({place: float(scores[place] >= fold_cut) for place in relevant if place[0] in own})
        return ScoredPairs(_graded(scores, cut), held_out, cut, f"fitted to {len(relevant):,} labels")
    if judge.cut is None:
        raise InputError(
            f"the scores of {judge.name!r} are no probabilities, so that only labels can say from which score a "
            f"document is relevant; give {_FEWEST} relevant and {_FEWEST} irrelevant ones, or use another judge"
        )
    grades = _graded(scores, judge.cut)
    return ScoredPairs(grades, grades, judge.cut, "the model's own probability of 0.5")


def _graded(scores: Mapping[_Place, float], cut: float) -> dict[_Place, float]:
    return {place: float(score >= cut) for place, score in scores.items()}


def _fitted(scores: Mapping[_Place, float], relevant: Mapping[_Place, bool], default: float | None = None) -> float:
    """The score at which Platt's fit gives a probability of 0.5.

    Args:
        default: the cut where the pairs cannot be fitted.
    """
    try:
        fit = platt([(scores[place], int(value)) for place, value in relevant.items()])
    except InputError:
        if default is None:
            raise
        return default
    return -fit.offset / fit.scale
