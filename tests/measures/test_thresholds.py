"""Thresholds: the cut for a target, equal scores together, intervals over queries."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from rerank_core import InputError
from rerank_core.measures import threshold

# By descending score: relevant, relevant, irrelevant, two with one score (relevant and irrelevant), irrelevant.
QUERIES = [[(5.0, 1), (3.0, 0), (2.0, 2)], [(4.0, 1), (2.0, 0), (1.0, 0)]]


@pytest.mark.parametrize(
    ("target", "cut", "precision", "recall", "kept"),
    [
        ({"precision": 1.0}, 4.0, 1.0, 2 / 3, 2),
        ({"precision": 0.6}, 2.0, 3 / 5, 1.0, 5),
        ({"precision": 0.65}, 4.0, 1.0, 2 / 3, 2),
        ({"recall": 0.3}, 4.0, 1.0, 2 / 3, 2),
        ({"recall": 1.0}, 2.0, 3 / 5, 1.0, 5),
        ({"recall": 0.67}, 2.0, 3 / 5, 1.0, 5),
    ],
)
def test_the_cut_is_the_best_one_by_hand(
    target: dict[str, float], cut: float, precision: float, recall: float, kept: int
) -> None:
    found = threshold(QUERIES, **target)

    assert (found.cut, found.kept, found.documents) == (cut, kept, 6)
    assert (found.precision.mean, found.recall.mean) == pytest.approx((precision, recall))


def test_the_best_cut_is_that_of_a_search_over_all() -> None:
    draw = np.random.default_rng(0)
    for target in ({"precision": 0.7}, {"recall": 0.7}):
        queries = [
            [(float(draw.integers(0, 12)) + grade, int(grade)) for grade in draw.integers(0, 2, 9)] for _ in range(9)
        ]
        pairs = [pair for query in queries for pair in query]
        cuts = {}
        for cut, _ in pairs:
            kept = [grade for score, grade in pairs if score >= cut]
            cuts[cut] = {"precision": np.mean(kept), "recall": sum(kept) / sum(grade for _, grade in pairs)}
        ((name, least),) = target.items()
        other = {"precision": "recall", "recall": "precision"}[name]
        found: Any = threshold(queries, **target)
        best = max(values[other] for values in cuts.values() if values[name] >= least)
        assert getattr(found, other).mean == pytest.approx(best)
        assert getattr(found, name).mean >= least
        assert cuts[found.cut][other] == pytest.approx(best)


def test_intervals_hold_the_precision_and_recall_of_new_queries() -> None:
    """Of 100 samples of 60 queries, the intervals hold the true values of the chosen cut in about 95 %."""
    draw = np.random.default_rng(0)

    def sample(size: int) -> list[list[tuple[float, int]]]:
        grades = (draw.random((size, 10)) < 0.3).astype(int)
        scores = draw.normal(0, 1, (size, 1)) * 0.5 + draw.normal(0, 1, (size, 10)) + 2 * grades
        return [list(zip(one, other, strict=True)) for one, other in zip(scores.tolist(), grades.tolist(), strict=True)]

    everyone = np.array([pair for query in sample(5_000) for pair in query])
    held = np.zeros(2)
    for _ in range(100):
        found = threshold(sample(60), recall=0.8, draws=300)
        kept = everyone[:, 0] >= found.cut
        true = everyone[kept, 1].mean(), everyone[kept, 1].sum() / everyone[:, 1].sum()
        held += [one.low <= value <= one.high for one, value in zip((found.precision, found.recall), true, strict=True)]
    assert (held >= 88).all()
    assert (held <= 99).all()


@pytest.mark.parametrize(
    ("queries", "target", "message"),
    [
        (QUERIES, {}, "needs one target"),
        (QUERIES, {"precision": 0.5, "recall": 0.5}, "needs one target"),
        (QUERIES, {"precision": 90}, "up to 1"),
        (QUERIES[:1], {"recall": 0.5}, "two or more queries"),
        ([[(1.0, 0)], [(0.0, 0)]], {"recall": 0.5}, "none of the 2 documents is relevant"),
        ([[(1.0, 0)], [(0.0, 1)]], {"precision": 0.9}, r"the best one has 0\.5"),
        ([[(math.nan, 0)], [(0.0, 1)]], {"precision": 0.9}, "finite"),
    ],
)
def test_what_has_no_threshold_says_why(queries: Any, target: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        threshold(queries, **target)
