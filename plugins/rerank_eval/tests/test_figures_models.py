"""Depth, harm, disagreement, fusion and comparisons of models, on numbers computed by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from rerank_core import InputError
from rerank_core.measures import Interval
from rerank_eval.figures.comparisons import compare
from rerank_eval.figures.depth import depth_curve
from rerank_eval.figures.disagreement import Harm, disagreement, queries_made_worse
from rerank_eval.figures.evaluation import Kind, Row
from rerank_eval.figures.fusion import fuse_pairs, reciprocal_ranks
from rerank_eval.sets.judged_set import Candidate, JudgedQuery, JudgedSet


def judged(*gains: list[float], order: str = "first-stage") -> JudgedSet:
    queries = tuple(
        JudgedQuery(f"q{number}", "x", tuple(Candidate(f"d{at}", f"text {at}", gain) for at, gain in enumerate(own)))
        for number, own in enumerate(gains)
    )
    return JudgedSet("set", queries, order=order, first_stage="BM25" if order == "first-stage" else None)  # type: ignore[arg-type]


def row(name: str, values: list[float], kind: Kind = "model") -> Row:
    mean = sum(values) / len(values)
    return Row("set", name, kind, {"RR": values}, {"RR": Interval(mean, mean, mean)})


def test_depth_curve() -> None:
    """The relevant document is the fourth; the model puts it first as soon as it may."""
    own = judged([0.0, 0.0, 0.0, 1.0, 0.0])
    curve = depth_curve(own, [[1.0, 2.0, 3.0, 9.0, 4.0]], "RR", depths=(2, 4, 100))
    assert curve == {0: 0.25, 2: 0.25, 4: 1.0, 5: 1.0}


def test_depth_can_do_harm() -> None:
    """A model that prefers documents from deep down is worse the more it gets; a failed call has no order."""
    own = judged([1.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0])
    curve = depth_curve(own, [[1.0, 0.0, 2.0, 3.0], []], "RR", depths=(1, 3))
    assert curve == {0: 1.0, 1: 0.5, 3: 0.25, 4: pytest.approx(1 / 6)}


def test_depth_needs_a_first_stage() -> None:
    with pytest.raises(InputError, match="'set' has no first stage"):
        depth_curve(judged([1.0, 0.0], order="shuffled"), [[1.0, 0.0]], "RR")


def test_queries_made_worse() -> None:
    """The largest loss first; a failed query, which counts as 0, is among them."""
    own = judged(*([1.0, 0.0] for _ in range(4)))
    harm = queries_made_worse(
        own, row("BM25", [1.0, 0.5, 1.0, 0.5], "first stage"), row("m", [0.5, 1.0, 0.0, 0.5]), "RR"
    )
    assert harm == [Harm("q2", 1.0, 0.0), Harm("q0", 1.0, 0.5)]


def test_disagreement() -> None:
    """0 for one order, 1 for opposite orders, between for a swap; a swap at the top counts more than at the bottom."""
    own = judged(*([1.0, 0.0, 0.0, 0.0] for _ in range(5)))
    falling = [4.0, 3.0, 2.0, 1.0]
    first = [falling, falling, falling, falling, []]
    second = [[9.0, 8.0, 7.0, 1.0], falling[::-1], [3.0, 4.0, 2.0, 1.0], [4.0, 3.0, 1.0, 2.0], falling]
    found = disagreement(own, {"a": first, "b": second})
    assert list(found) == ["q1", "q2", "q3", "q0"]
    assert (found["q1"], found["q0"]) == (pytest.approx(1), pytest.approx(0))
    # Weights of a pair are the sum of 1/rank of both; the swapped pair of all six is the share.
    weights = [1 / one + 1 / other for one, other in itertools.combinations(range(1, 5), 2)]
    assert found["q2"] == pytest.approx((1 + 1 / 2) / sum(weights))
    assert found["q3"] == pytest.approx((1 / 3 + 1 / 4) / sum(weights))


def test_equal_scores_agree_with_nothing() -> None:
    own = judged([1.0, 0.0, 0.0])
    assert disagreement(own, {"a": [[1.0, 1.0, 1.0]], "b": [[3.0, 2.0, 1.0]]}) == {"q0": 0.5}


def test_reciprocal_ranks() -> None:
    """Ranks 1, 2, 3 and 3, 1, 3: equal scores share the worst rank."""
    assert reciprocal_ranks([[3.0, 2.0, 1.0], [0.0, 5.0, 0.0]], k=1) == pytest.approx(
        [1 / 2 + 1 / 4, 1 / 3 + 1 / 2, 1 / 4 + 1 / 4]
    )


def test_fusion_against_the_better_one() -> None:
    """Each model ranks the relevant document second, behind another one: fused, it is first."""
    own = judged([0.0, 1.0, 0.0], [0.0, 1.0, 0.0])
    first, second = [[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]], [[1.0, 2.0, 3.0], []]
    (fusion,) = fuse_pairs(own, {"a": first, "b": second}, "RR", k=0)
    assert (fusion.first, fusion.second, fusion.better) == ("a", "b", "a")
    # 1 + 1/3, 1/2 + 1/2, 1/3 + 1: the second is last in the first query; where b failed, a decides.
    assert fusion.figure.mean == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert fusion.difference.mean == pytest.approx((1 / 3 + 1 / 2) / 2 - 1 / 2)


def test_every_pair_is_compared() -> None:
    """Models with each other and with the first stage, which comes first; not the floors, nor a stopped run."""
    random = np.random.default_rng(0)
    low, high = random.random(30), 1 + random.random(30)
    rows = [
        row("good", high.tolist()),
        row("bad", low.tolist()),
        Row("set", "stopped", "model", {}, {}),
        row("BM25", low.tolist(), "first stage"),
        row("random", low.tolist(), "random"),
        row("oracle", high.tolist(), "oracle"),
    ]
    found = compare(rows, "RR")
    assert [(one.first, one.second) for one in found] == [("BM25", "good"), ("BM25", "bad"), ("good", "bad")]
    assert found[0].difference.mean == pytest.approx(float((high - low).mean()))
    assert found[0].difference.low > 0.8
    assert 0 < found[0].p < 0.001
    assert found[0].more_queries == 0
    assert found[0].p_corrected == pytest.approx(3 * found[0].p)
    assert (found[1].p, found[1].p_corrected) == (1.0, 1.0)
    assert math.isclose(found[2].difference.mean, -found[0].difference.mean)
