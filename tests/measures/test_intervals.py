"""Intervals of means over queries."""

from __future__ import annotations

import numpy as np
import pytest

from rerank_core import InputError
from rerank_core.measures import interval, interval_over_sets, paired


def test_intervals_hold_the_mean_as_often_as_they_say() -> None:
    """Of 1,000 samples of 100 queries, and of pairs of models, the 95 % interval holds the true mean in 95 +- 2 %."""
    random = np.random.default_rng(0)
    held = held_by_pairs = 0
    for values, others in zip(random.beta(0.4, 0.6, (1000, 100)), random.normal(0.1, 0.3, (1000, 100)), strict=True):
        found = interval(values.tolist(), draws=400)
        gain = paired(values.tolist(), (values + others).tolist(), draws=400)
        held += found.low <= 0.4 <= found.high
        held_by_pairs += gain.low <= 0.1 <= gain.high
    assert 930 <= held <= 970
    assert 930 <= held_by_pairs <= 970


def test_intervals_are_drawn_alike_and_in_blocks() -> None:
    """The same seed gives the same interval, another one a near one, and many queries are drawn in blocks."""
    values = np.random.default_rng(1).random(3_000).tolist()
    assert interval(values, draws=1_000) == interval(values, draws=1_000)
    found, other = interval(values, draws=1_000), interval(values, draws=1_000, seed=1)
    assert found != other
    assert found.low == pytest.approx(other.low, abs=2e-3)
    error = np.std(values) / len(values) ** 0.5
    assert found.high - found.mean == pytest.approx(1.96 * error, rel=0.1)


def test_the_interval_of_a_mean_over_sets_holds_it_as_often_as_it_says() -> None:
    """Two sets of other sizes, means and deviations; drawn from both together the interval would be far too wide."""
    random, held, widths = np.random.default_rng(0), 0, []
    for few, many in zip(random.normal(0.2, 0.05, (1000, 40)), random.normal(0.9, 0.02, (1000, 400)), strict=True):
        found = interval_over_sets([few.tolist(), many.tolist()], draws=400)
        held += found.low <= 0.55 <= found.high
        widths.append(found.high - found.low)
    assert 920 <= held <= 970
    assert np.mean(widths) == pytest.approx(2 * 1.96 * 0.5 * 0.05 / 40**0.5, rel=0.1)


def test_a_paired_interval_is_narrower_where_queries_agree() -> None:
    """Hard and easy queries cancel out: an equal gain everywhere has no width."""
    random = np.random.default_rng(2)
    before = random.random(50).tolist()
    found = paired(before, [value + 0.01 for value in before])
    assert (found.low, found.mean, found.high) == pytest.approx((0.01, 0.01, 0.01))
    assert interval(before).high - interval(before).low > 0.1


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda: interval([0.5]), "two or more"),
        (lambda: interval([0.5, float("nan")]), "finite"),
        (lambda: interval([0.5, 0.6], level=95), "level 95"),
        (lambda: paired([0.5, 0.6], [0.5]), "2 values before and 1 after"),
    ],
)
def test_what_has_no_interval_says_why(call: object, reason: str) -> None:
    """One query, values that are none, a level in percent, other queries."""
    with pytest.raises(InputError, match=reason):
        call()  # type: ignore[operator]
