"""`advise` on simulated models, whose true means are known: right in at least 95 % of 200 simulations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import binom

from rerank_core.measures import compare, interval
from rerank_eval.advice.advice import Advice
from rerank_eval.advice.advise import advise
from rerank_eval.advice.choosing import _p_of_loss, versus
from rerank_eval.advice.contenders import Contender, pairs_of
from rerank_eval.figures.evaluation import Comparison, Evaluation, Row, Speed
from rerank_eval.sets.judged_set import Candidate, JudgedQuery, JudgedSet

METRIC = "nDCG@10"
RUNS = 200
LEAST = 0.95

Values = dict[str, np.ndarray]


def simulated(values: Values, times: dict[str, float]) -> Evaluation:
    """One set; intervals and tests of 500 draws."""
    count = len(next(iter(values.values())))
    documents = (Candidate("a", "a", 1.0), Candidate("b", "b", 0.0))
    judged = JudgedSet("dev", tuple(JudgedQuery(f"q{at}", "q", documents) for at in range(count)))
    own = {name: tuple(of_model.tolist()) for name, of_model in values.items()}
    rows = tuple(
        Row("dev", name, "model", {METRIC: own[name]}, {METRIC: interval(own[name], draws=10)}, None, Speed(time, time))
        for name, time in times.items()
    )
    comparisons = tuple(
        Comparison("dev", METRIC, one.first, one.second, one.difference, one.p, one.adjusted, one.more_queries)
        for one in compare(own, draws=500)
    )
    return Evaluation((judged,), (METRIC,), rows, comparisons)


def drawn(seed: int, queries: int, means: dict[str, float], noise: float = 0.15) -> Values:
    """Values in [0, 1] as models have them: the query decides much of them, and a model adds noise."""
    random = np.random.default_rng(seed)
    difficulty = random.beta(2, 2, queries) - 0.5
    return {
        name: np.clip(mean + 0.6 * difficulty + random.normal(0, noise, queries), 0, 1) for name, mean in means.items()
    }


def outcomes(
    queries: int,
    means: dict[str, float],
    times: dict[str, float],
    outcome: Callable[[Advice], object],
    noise: float = 0.15,
) -> Counter[object]:
    return Counter(outcome(advise(simulated(drawn(seed, queries, means, noise), times))) for seed in range(RUNS))


def is_true(advice: Advice, means: dict[str, float]) -> bool:
    """Whether everything that the advice claims about the choice is so."""
    assert advice.choice is not None
    least = {"better": 0.0, "as good": -advice.margin, "open": -1.0}
    return all(means[advice.choice] - means[one.other] > least[one.verdict] for one in advice.versus)


@pytest.mark.parametrize(("queries", "gap"), [(20, 0.2), (200, 0.07), (400, 0.05)])
def test_the_better_model_is_found(queries: int, gap: float) -> None:
    """A true difference of three or more standard errors above what counts as equal; the better model is slower."""
    found = outcomes(
        queries,
        {"good": 0.5 + gap / 2, "bad": 0.5 - gap / 2},
        {"good": 50.0, "bad": 10.0},
        lambda advice: (advice.choice, advice.settled),
    )
    assert found["good", True] >= LEAST * RUNS, found


@pytest.mark.parametrize("queries", [8, 30])
def test_too_few_queries_do_not_settle(queries: int) -> None:
    """Three models of one quality: nothing is settled, and the number of further queries is said."""
    found = outcomes(
        queries,
        dict.fromkeys(("one", "two", "three"), 0.5),
        dict.fromkeys(("one", "two", "three"), 20.0),
        lambda advice: (advice.settled, (advice.more_queries or 0) > 0),
    )
    assert found[False, True] >= LEAST * RUNS, found


@pytest.mark.parametrize("gap", [0.0, 0.03])
@pytest.mark.parametrize("queries", [10, 40, 160])
def test_what_is_claimed_is_true(queries: int, gap: float) -> None:
    """At every size a model that is called better is better, and one that is called as good loses less than 0.01.

    Claims are tested at 5 %, so that up to 20 of 200 advices may have a wrong one by chance (binomial, 99.9 %).
    """
    means = {"good": 0.5 + gap, "other": 0.5, "fast": 0.5}
    found = outcomes(queries, means, {"good": 30.0, "other": 30.0, "fast": 10.0}, lambda advice: is_true(advice, means))
    assert found[False] <= binom.ppf(0.999, RUNS, 1 - LEAST), found


def test_a_faster_model_of_equal_quality_is_preferred() -> None:
    """500 queries of which all models give much the same values show that its loss is below 0.01."""
    found = outcomes(
        500,
        {"slow": 0.5, "fast": 0.5},
        {"slow": 90.0, "fast": 10.0},
        lambda advice: (advice.choice, advice.settled),
        noise=0.03,
    )
    assert found["fast", True] >= LEAST * RUNS, found


def test_the_number_of_further_queries_settles() -> None:
    """With as many queries as the median advice asks for, a test of the power of 80 % settles it in most cases."""
    means, times = {"good": 0.515, "bad": 0.485}, {"good": 20.0, "bad": 20.0}
    first = [advise(simulated(drawn(seed, 40, means), times)) for seed in range(RUNS)]
    asked = int(np.median([40 + (advice.more_queries or 0) for advice in first]))
    # To show a loss below 0.01: ((0.84 + 1.96) * deviation of 0.21 / (0.03 + 0.01)) ** 2 = 216.
    assert 100 < asked < 400
    again = [advise(simulated(drawn(seed, asked, means), times)) for seed in range(RUNS, 2 * RUNS)]
    assert sum(advice.settled and advice.choice == "good" for advice in again) >= 0.65 * RUNS


def test_sets_of_different_sizes_vary_each_by_itself() -> None:
    """A model is better by 0.1 on each of 10 queries, and on each of 400: no draw within the sets changes that."""
    alike = Contender("alike", "model", {}, ((0.5,) * 10, (0.2,) * 400), 1.0)
    better = Contender("better", "model", {}, ((0.6,) * 10, (0.3,) * 400), 1.0)
    sets = tuple(JudgedSet(name, ()) for name in ("small", "large"))
    pair = pairs_of(Evaluation(sets, (METRIC,), (), ()), [alike, better])["better", "alike"]
    assert (pair.difference.low, pair.difference.high) == pytest.approx((0.1, 0.1))
    found = versus(better, alike, pair, 0.01, 1)
    assert (found.verdict, found.p_loss) == ("better", 0.0)


def test_the_mean_over_sets_is_tested_as_often_wrong_as_it_says() -> None:
    """Two models of one quality; the variance is that of the small set, whose queries are few (Welch)."""
    wrong = 0
    for seed in range(2000):
        random = np.random.default_rng(seed)
        drawn_sets = [random.normal(0, 0.3, 8), random.normal(0, 0.1, 200)]
        other = Contender("other", "model", {}, tuple((0.0,) * len(own) for own in drawn_sets), 1.0)
        choice = Contender("choice", "model", {}, tuple(tuple(own.tolist()) for own in drawn_sets), 1.0)
        # A loss of exactly the margin is the case that must not be called smaller in more than 2.5 %.
        wrong += _p_of_loss(choice, other, 0.0) < 0.025
    assert binom.ppf(0.001, 2000, 0.025) <= wrong <= binom.ppf(0.999, 2000, 0.025), wrong
