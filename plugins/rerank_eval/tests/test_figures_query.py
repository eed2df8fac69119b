"""Values of queries, orders, floors and the ceiling, on numbers computed by hand."""

from __future__ import annotations

import math

import pytest

from rerank_eval.figures.orders import first_stage_order, order_of, scores_of_order
from rerank_eval.figures.query_values import measured, values_of_scores
from rerank_eval.figures.speed import speed_of
from rerank_eval.runs.model_run import QueryRun
from rerank_eval.sets.judged_set import Candidate, JudgedQuery, JudgedSet


def judged(*gains: list[float | None], others: dict[str, float] | None = None, **facts: object) -> JudgedSet:
    """A set with the gains of its queries' candidates."""
    queries = tuple(
        JudgedQuery(
            f"q{number}",
            "red apple",
            tuple(Candidate(f"d{at}", f"text {at}", gain) for at, gain in enumerate(own)),
            others or {},
        )
        for number, own in enumerate(gains)
    )
    return JudgedSet("set", queries, **facts)  # type: ignore[arg-type]


def test_values_by_hand() -> None:
    """nDCG with linear gains and log2 discounts, AP, RR."""
    values = values_of_scores(judged([2.0, 0.0, 1.0]), [[1.0, 3.0, 2.0]], ["nDCG@10", "AP", "RR@10"])
    # The order is 1, 2, 0: gains 0, 1, 2.
    dcg = 1 / math.log2(3) + 2 / math.log2(4)
    assert values["nDCG@10"] == (pytest.approx(dcg / (2 + 1 / math.log2(3))),)
    assert values["AP"] == (pytest.approx((1 / 2 + 2 / 3) / 2),)
    assert values["RR@10"] == (0.5,)


def test_judged_documents_that_are_no_candidates_count() -> None:
    """A first stage that missed one of two relevant documents cannot reach 1."""
    found = judged([1.0, 0.0], others={"missed": 1.0})
    values = values_of_scores(found, [[2.0, 1.0]], ["nDCG@10", "AP", "R@10"])
    assert values["nDCG@10"] == (pytest.approx(1 / (1 + 1 / math.log2(3))),)
    assert values["AP"] == (0.5,)
    assert values["R@10"] == (0.5,)


def test_equal_scores_count_in_the_worst_order() -> None:
    assert values_of_scores(judged([1.0, 0.0, 0.0]), [[0.5, 0.5, 0.5]], ["RR"])["RR"] == (pytest.approx(1 / 3),)


def test_unjudged_documents_are_counted() -> None:
    values = values_of_scores(judged([1.0, None, 0.0, None]), [[4.0, 3.0, 2.0, 1.0]], ["Judged@2", "unjudged@1", "RR"])
    assert values == {"Judged@2": (0.5,), "unjudged@1": (0.0,), "RR": (1.0,)}


def test_a_failed_query_is_0() -> None:
    values = values_of_scores(judged([1.0, 0.0], [1.0, 0.0]), [[], [2.0, 1.0]], ["nDCG@10"])
    assert values == {"nDCG@10": (0.0, 1.0)}


def test_a_query_that_a_metric_leaves_out_is_none() -> None:
    """Whether its call failed or not: rows stay comparable."""
    found = judged([1.0, 0.0], [0.0, 0.0], [0.0, 0.0])
    values = values_of_scores(found, [[2.0, 1.0], [2.0, 1.0], []], ["map", "AP"])
    assert values == {"map": (1.0, None, None), "AP": (1.0, None, None)}
    assert measured(values["map"]) == [1.0]


def test_metrics_keep_the_names_that_were_asked_for() -> None:
    assert values_of_scores(judged([0.0, 1.0]), [[2.0, 1.0]], ["MRR@10"]) == {"MRR@10": (0.5,)}


def test_the_first_stage() -> None:
    """Its order, or the scores of shuffled candidates, those without a score last; or there is none."""
    ordered = judged([0.0, 1.0], order="first-stage", first_stage="BM25")
    order = first_stage_order(ordered)
    assert order is not None
    assert order(ordered.queries[0]) == [0, 1]
    scored = tuple(
        Candidate(str(at), "t", gain, score)
        for at, (gain, score) in enumerate([(1.0, 2.0), (0.0, None), (0.0, 2.0), (0.0, 3.0)])
    )
    shuffled = JudgedSet("set", (JudgedQuery("q", "x", scored),), first_stage="search")
    order = first_stage_order(shuffled)
    assert order is not None
    assert order(shuffled.queries[0]) == [3, 2, 0, 1]
    assert first_stage_order(judged([0.0, 1.0])) is None


def test_order_of() -> None:
    """Best first, equal scores in the worst order; as scores, the order is the same."""
    order = order_of([0.1, 0.3, 0.3, 0.2], [0.0, 1.0, 0.0, 2.0])
    assert order == [2, 1, 3, 0]
    assert order_of(scores_of_order(order), [0.0] * 4) == order


def test_speed() -> None:
    """Median and 95th percentile; tokens and cost over the whole time; a failed call counts nowhere."""
    runs = [QueryRun(str(ms), (1.0,), ms / 1000, tokens=ms) for ms in range(1, 102)]
    speed = speed_of([*runs, QueryRun("bad", (), 100.0, error="no")], price_per_hour=3.6)
    assert speed is not None
    assert (speed.median_ms, speed.p95_ms) == (pytest.approx(51), pytest.approx(96))
    assert speed.tokens_per_second == pytest.approx(1000)
    assert speed.cost_per_1000 == pytest.approx(0.001 * 0.051 * 1000)
    assert speed_of([QueryRun("bad", (), 1.0, error="no")]) is None
    uncounted = speed_of([QueryRun("a", (1.0,), 0.5)])
    assert uncounted is not None
    assert (uncounted.tokens_per_second, uncounted.cost_per_1000, uncounted.p95_ms) == (None, None, 500)
