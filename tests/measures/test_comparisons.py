"""Comparisons: exact and drawn randomisation tests, Holm's correction, the queries that a difference needs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rerank_core import InputError
from rerank_core.measures import compare, paired, queries_needed, randomisation_test
from rerank_core.measures.comparisons import holm


def test_the_exact_test_is_scipys() -> None:
    """Of all sign flips of 8 differences, two of them equal and one 0."""
    stats = pytest.importorskip("scipy.stats")
    before = [0.1, 0.4, 0.3, 0.9, 0.2, 0.5, 0.7, 0.6]
    after = [0.3, 0.6, 0.3, 0.8, 0.7, 0.6, 0.9, 0.9]
    expected = stats.permutation_test(
        (np.array(after), np.array(before)),
        lambda one, other, axis: (one - other).mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
    ).pvalue
    assert randomisation_test(before, after) == pytest.approx(expected)
    assert randomisation_test(after, before) == pytest.approx(expected)


def test_a_drawn_test_is_near_the_exact_one() -> None:
    draw = np.random.default_rng(3)
    before = draw.random(13)
    after = before + draw.normal(0.05, 0.1, 13)
    exact = randomisation_test(before.tolist(), after.tolist(), draws=2**13)
    drawn = randomisation_test(before.tolist(), after.tolist(), draws=2**13 - 1)

    assert 0.01 < exact < 0.9
    assert drawn == pytest.approx(exact, abs=0.03)
    assert drawn == randomisation_test(before.tolist(), after.tolist(), draws=2**13 - 1)
    assert drawn != randomisation_test(before.tolist(), after.tolist(), draws=2**13 - 1, seed=1)


def test_no_difference_is_found_as_often_as_the_level_says() -> None:
    """Of 400 pairs of equal models, about 5 % have a p-value below .05."""
    draw = np.random.default_rng(0)
    p_values = []
    for _ in range(400):
        one, other = draw.normal(0, 1, (2, 30)).tolist()
        p_values.append(randomisation_test(one, other, draws=400))
    assert 0.02 < np.mean(np.array(p_values) < 0.05) < 0.08


def test_equal_models_do_not_differ() -> None:
    assert randomisation_test([0.1, 0.2, 0.3], [0.1, 0.2, 0.3]) == 1.0
    assert queries_needed([0.1, -0.1]) is None
    assert queries_needed([0.1, 0.2, -0.3]) is None  # 0 but for rounding
    assert compare({"alone": [0.1, 0.2]}) == []


def test_holm_keeps_the_order_and_stays_below_one() -> None:
    """By hand: 0.01 * 4, then 0.02 * 3, 0.03 * 2 raised to the one before, 0.9 * 1."""
    assert holm([0.9, 0.02, 0.01, 0.03]) == pytest.approx([0.9, 0.06, 0.04, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_a_difference_is_found_with_the_queries_that_it_needs() -> None:
    """With as many queries as `queries_needed` says of the true mean and deviation, 80 % of tests are below .05."""
    draw = np.random.default_rng(0)
    mean, deviation = 0.1, 0.3
    known = np.array([-1.0, 1.0] * 500)
    needed = queries_needed((mean + deviation * known).tolist())
    assert needed == pytest.approx((0.8416 + 1.96) ** 2 * (deviation / mean) ** 2, abs=1.5)
    found = 0
    for _ in range(300):
        differences = draw.normal(mean, deviation, needed)
        found += randomisation_test([0.0] * len(differences), differences.tolist(), draws=400) < 0.05
    assert 0.73 < found / 300 < 0.87


def test_every_pair_is_compared() -> None:
    """Two good models and a bad one: the bad one differs from both, and of the good ones more queries would tell."""
    draw = np.random.default_rng(5)
    base = draw.random(100)
    values = {
        "bad": base.tolist(),
        "good": (base + 0.1 + draw.normal(0, 0.1, 100)).tolist(),
        "as good": (base + 0.1 + draw.normal(0.005, 0.1, 100)).tolist(),
    }
    found = {(one.first, one.second): one for one in compare(values, draws=2_000)}

    assert list(found) == [("bad", "good"), ("bad", "as good"), ("good", "as good")]
    first, last = found["bad", "good"], found["good", "as good"]
    alone = paired(values["bad"], values["good"], draws=2_000)
    assert (first.difference.low, first.difference.mean) == pytest.approx((alone.low, alone.mean), abs=1e-12)
    assert first.p == randomisation_test(values["bad"], values["good"], draws=2_000)
    assert first.adjusted == pytest.approx(min(1.0, first.p * 3), rel=1e-9)
    assert first.adjusted < 0.01 < 0.2 < last.p == last.adjusted
    assert first.more_queries == 0
    assert last.more_queries is not None
    assert last.more_queries > 100


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ([0.1], [0.2], "two or more"),
        ([0.1, 0.2], [0.2], "2 values before and 1 after"),
        ([0.1, math.nan], [0.2, 0.3], "finite"),
    ],
)
def test_what_cannot_be_compared_is_refused(before: list[float], after: list[float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        randomisation_test(before, after)
    with pytest.raises(InputError, match=r"power 80 and level 0\.95"):
        queries_needed([0.1, 0.2], power=80)
