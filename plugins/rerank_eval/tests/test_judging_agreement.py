"""Agreement of a judge with hand-made labels."""

from __future__ import annotations

import random

import pytest

from rerank_eval.judging.agreement import LabelledPair, agreement_of


def simulated(queries: int, errors: float, seed: int) -> list[LabelledPair]:
    """Ten pairs a query with a label of 0 or 1; the judge gives the other one with this probability."""
    source = random.Random(seed)
    labels = [(query, float(source.random() < 0.4)) for query in range(queries) for _ in range(10)]
    return [LabelledPair(query, label, abs(label - (source.random() < errors))) for query, label in labels]


def test_kappa_is_scikit_learns_and_its_interval_covers() -> None:
    """The truth: both agree on 90 % of pairs, by chance on .4 * .42 + .6 * .58."""
    from sklearn.metrics import cohen_kappa_score

    truth = (0.9 - 0.516) / (1 - 0.516)
    inside = 0
    for seed in range(60):
        pairs = simulated(30, 0.1, seed)
        found = agreement_of(pairs, label_top=1, grade_top=1)
        assert found is not None
        assert found.kappa is not None
        expected = cohen_kappa_score([one.label for one in pairs], [one.grade for one in pairs])
        assert found.kappa.mean == pytest.approx(expected)
        inside += found.kappa.low <= truth <= found.kappa.high
    assert 52 <= inside < 60


def test_scales_are_compared_by_their_upper_half() -> None:
    """Grades of 0 to 3 against clicks: 2 and 3 are relevant."""
    pairs = [LabelledPair(at, label, grade) for at, (label, grade) in enumerate([(0, 0), (0, 1), (1, 2), (1, 3)])]
    found = agreement_of(pairs, label_top=1, grade_top=3)
    assert found is not None
    assert found.share == 1.0
    assert found.kappa is not None
    assert found.kappa.mean == 1.0
    assert found.weighted_kappa is None
    graded = agreement_of(
        [LabelledPair(0, one.grade, min(one.grade + 1, 3)) for one in pairs], label_top=3, grade_top=3
    )
    assert graded is not None
    assert graded.share == 0.75
    assert 0.5 < (graded.weighted_kappa or 0) < 1


def test_kappa_is_undefined_where_one_side_knows_one_class() -> None:
    found = agreement_of([LabelledPair(0, 1, 1), LabelledPair(1, 1, 0)], label_top=1, grade_top=1)
    assert found is not None
    assert (found.share, found.kappa) == (0.5, None)
    assert agreement_of([], label_top=1, grade_top=1) is None
