"""Calibration: what is reported is what hand computation and scikit-learn give; a fit never turns an order round."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rerank_core import InputError
from rerank_core.measures import (
    CalibrationMap,
    Scored,
    cross_validated,
    histogram,
    isotonic,
    platt,
    reliability,
    temperature,
)

sigmoid = np.vectorize(lambda value: 1 / (1 + math.exp(-value)))


def drawn(scale: float, offset: float, count: int = 20_000, seed: int = 0) -> list[tuple[float, int]]:
    """Scores whose documents are relevant with the probability sigmoid(scale * score + offset)."""
    random = np.random.default_rng(seed)
    scores = random.normal(0, 2, count)
    labels = random.random(count) < sigmoid(scale * scores + offset)
    return list(zip(scores.tolist(), labels.astype(int).tolist(), strict=True))


def test_reliability_is_what_a_hand_computes() -> None:
    """Three documents: two in the bin from .7 to .8, one in that from .2 to .3; grades above 0 are relevant."""
    high, low = math.log(0.75 / 0.25), math.log(0.25 / 0.75)
    found = reliability([(high, 2), (high, 0), (low, 0)])
    assert found.ece == pytest.approx(2 / 3 * abs(0.75 - 0.5) + 1 / 3 * abs(0.25 - 0))
    assert found.brier == pytest.approx((0.25**2 + 0.75**2 + 0.25**2) / 3)
    assert (found.documents, found.relevant) == (3, 1)
    assert [(count, share) for count, _, share in found.bins] == [(1, 0.0), (2, 0.5)]


def test_extreme_scores_have_a_bin() -> None:
    """A sigmoid that is 1 or 0 in float64 is counted, without a warning of overflow."""
    found = reliability([(1000.0, 1), (-1000.0, 0)])
    assert (found.ece, found.brier) == (0, 0)


def test_the_fit_finds_what_labels_were_drawn_with() -> None:
    """Scale and offset come back, and the error that they had made goes away."""
    scored = drawn(0.4, -1.5)
    found = platt(scored)
    assert (found.scale, found.offset) == pytest.approx((0.4, -1.5), abs=0.05)
    assert reliability(scored).ece > 0.1
    assert reliability(scored, found).ece < 0.02


def test_the_fit_is_scikit_learns() -> None:
    """scikit-learn's Platt scaling, `_sigmoid_calibration`, minimises the same loss over the same targets."""
    library = pytest.importorskip("sklearn.calibration")
    scored = drawn(1.7, 0.3, 300)
    scores, labels = (np.array(column) for column in zip(*scored, strict=True))
    slope, offset = library._sigmoid_calibration(scores, labels)
    found = platt(scored)
    assert (found.scale, found.offset) == pytest.approx((-slope, -offset), rel=1e-3)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.floats(-30, 30), st.integers(0, 3)), min_size=2, max_size=40),
    st.floats(0.01, 50),
    st.floats(-50, 50),
)
def test_the_fit_has_no_slope_left(scored: list[tuple[float, int]], scale: float, offset: float) -> None:
    """Where there is a fit, the loss's derivatives by scale and offset vanish, wherever scores lie and however far
    apart; elsewhere it is refused for a reason that the data show."""
    scored = [(scale * score + offset, grade) for score, grade in scored]
    scores = np.array([score for score, _ in scored])
    relevant = np.array([grade > 0 for _, grade in scored])
    try:
        found = platt(scored)
    except InputError:
        alike = scores.std() <= 1e-9 * max(1, np.abs(scores).max())
        assert alike or relevant.all() or not relevant.any() or (
            scores[relevant].mean() <= scores[~relevant].mean() + 1e-9 * np.abs(scores).max()
        )  # fmt: skip
        return
    targets = np.where(relevant, (relevant.sum() + 1) / (relevant.sum() + 2), 1 / ((~relevant).sum() + 2))
    excess = sigmoid(np.clip(found.scale * scores + found.offset, -700, 700)) - targets
    assert abs(excess.sum()) < 1e-4 * len(scored)
    assert abs((excess * (scores - scores.mean()) / scores.std()).sum()) < 1e-4 * len(scored)


def test_separated_labels_have_a_finite_fit() -> None:
    """Platt's targets keep away from 0 and 1, so that a perfect ranking has a scale too."""
    found = platt([(1.0, 1), (0.5, 1), (-1.0, 0), (-2.0, 0)])
    assert 0 < found.scale < 10


def test_temperature_is_one_number() -> None:
    """Labels drawn with a scale alone give it back; a logit of 0 stays at even odds."""
    found = temperature(drawn(0.25, 0.0))
    assert found.scale == pytest.approx(0.25, abs=0.02)
    assert found(0.0) == 0.5


def test_a_temperature_says_that_cosines_need_an_offset() -> None:
    """All of them are above 0, those of irrelevant documents too."""
    cosines = [(0.6 + 0.1 * (at % 2), at % 2) for at in range(10)] + [(0.5, 0)] * 20
    assert platt(cosines).scale > 0
    with pytest.raises(InputError, match="no offset, and these scores need one"):
        temperature(cosines)


@pytest.mark.parametrize(
    ("scored", "reason"),
    [
        ([], "got none"),
        ([(1.0, 1), (2.0, 1)], "2 of 2 are relevant"),
        ([(1.0, 1), (1.0, 0)], "all 2 scores are 1.0"),
        ([(1.0, 0), (0.0, 1)], "reverse the order of documents"),
        ([(math.nan, 0), (0.0, 1)], "finite"),
    ],
)
def test_what_cannot_be_fitted_says_why(scored: list[tuple[float, int]], reason: str) -> None:
    """Nothing to fit, or scores that fall with relevance, are errors that say so."""
    with pytest.raises(InputError, match=reason):
        platt(scored)


def test_isotonic_is_scikit_learns() -> None:
    """At every score, between scores and outside them, pure Python gives what scikit-learn predicts."""
    library = pytest.importorskip("sklearn.isotonic")
    scored = [(round(score, 1), label) for score, label in drawn(1.0, 0.5, 500)]
    scores, labels = (np.array(column) for column in zip(*scored, strict=True))
    fitted = library.IsotonicRegression(out_of_bounds="clip").fit(scores, labels)
    asked = np.concatenate([scores, np.linspace(-9, 9, 1000)])
    found = isotonic(scored)
    assert [found(score) for score in asked.tolist()] == pytest.approx(fitted.predict(asked).tolist(), abs=1e-12)


def test_isotonic_fits_what_a_sigmoid_cannot() -> None:
    """Labels whose probability jumps at two scores: on new documents its error is the smaller one."""
    random = np.random.default_rng(0)
    scores = random.normal(0, 2, 20_000)
    labels = random.random(20_000) < np.select([scores < -1, scores < 1], [0.05, 0.5], 0.55)
    scored = list(zip(scores.tolist(), labels.astype(int).tolist(), strict=True))
    seen, new = scored[:10_000], scored[10_000:]
    assert reliability(new, isotonic(seen)).brier < reliability(new, platt(seen)).brier - 0.01
    assert reliability(new, isotonic(seen)).ece < 0.02


def test_cross_validation_fits_to_other_queries() -> None:
    """Every document is measured once, by a fit that never saw its query; few queries flatter a fit to themselves."""
    scored = drawn(1.0, -1.0, 90)
    queries = [scored[start : start + 3] for start in range(0, 90, 3)]
    fitted_to: list[list[tuple[float, int]]] = []

    def fit(documents: Scored) -> CalibrationMap:
        fitted_to.append(list(documents))
        return isotonic(documents)

    found = cross_validated(fit, queries)
    assert [sum(query[0] in documents for documents in fitted_to) for query in queries] == [4] * 30
    assert {len(documents) for documents in fitted_to} == {72}
    assert found.documents == 90
    assert found.brier > reliability(scored, isotonic(scored)).brier
    assert found == cross_validated(isotonic, queries)
    assert found != cross_validated(isotonic, queries, seed=1)


def test_a_good_fit_has_a_small_cross_validated_error() -> None:
    scored = drawn(0.4, -1.5)
    queries = [scored[start : start + 10] for start in range(0, len(scored), 10)]
    assert cross_validated(platt, queries).ece < 0.02 < 0.1 < reliability(scored).ece


def test_cross_validation_needs_queries_that_can_be_fitted() -> None:
    with pytest.raises(InputError, match="got 1 queries"):
        cross_validated(platt, [[(1.0, 1), (0.0, 0)]])
    with pytest.raises(InputError, match="of 1 are relevant"):
        cross_validated(platt, [[(1.0, 1)], [(0.0, 0)]])


def test_a_histogram_counts_every_document_once() -> None:
    """Bins reach from the lowest score to the highest, ends included."""
    scored = drawn(1.0, 0.0, 500)
    bars = histogram(scored, bins=7)
    assert len(bars) == 7
    assert sum(bar.relevant for bar in bars) == sum(label for _, label in scored)
    assert sum(bar.irrelevant + bar.relevant for bar in bars) == 500
    assert bars[0].low == min(scored)[0]
    assert bars[-1].high == max(scored)[0]


@pytest.mark.parametrize("scores", [(1.0, 1 - 1e-16), (0.5, 0.5), (1e30, 1e30), (-1.7e308, 1.7e308), (0.0, 0.0)])
def test_scores_of_any_range_have_a_histogram(scores: tuple[float, float]) -> None:
    """Also saturated sigmoids, which differ in the last digit."""
    bars = histogram([(scores[0], 0), (scores[1], 1)])
    assert len(bars) == 10
    assert (sum(bar.irrelevant for bar in bars), sum(bar.relevant for bar in bars)) == (1, 1)
    assert all(bar.low < bar.high for bar in bars)
