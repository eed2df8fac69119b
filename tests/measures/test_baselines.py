"""Floors and ceilings: exact expected values of a random order, BM25, the best order."""

from __future__ import annotations

from itertools import permutations

import pytest

from rerank_core.measures import (
    BM25,
    best_scores,
    bm25_scores,
    file_order_scores,
    measure_scores,
    random_values,
)

EXACT = ["nDCG@3", "nDCG", "AP", "AP@2", "RR", "RR@2", "R@2", "P@3", "P@9", "Success@2", "Judged@3", "unjudged@3"]
EXACT += ["map", "map_at_1000"]
# Graded, with a judged document that is no candidate and a candidate that is not judged; one without a relevant one.
GAINS = [{0: 2.0, 1: 0.0, 2: 1.0, 3: 0.0, 9: 1.0}, {0: 1.0, 1: 0.0, 2: 0.0}, {0: 0.0, 1: 0.0}]
CANDIDATES = [[0, 1, 2, 3, 4], [0, 1, 2], [0, 1]]


@pytest.mark.parametrize("metric", EXACT)
def test_a_random_order_is_the_mean_of_all_orders(metric: str) -> None:
    """Of each query, all orders are measured, by the path that measures models."""
    found = random_values([metric], GAINS, CANDIDATES)[metric]
    expected = []
    for gains, docs in zip(GAINS, CANDIDATES, strict=True):
        orders = [file_order_scores(order) for order in permutations(docs)]
        values = measure_scores([metric], [gains] * len(orders), orders)[metric].values
        expected += [sum(values) / len(values)] if values else []

    assert found.values == pytest.approx(expected, abs=1e-12)
    assert found.left_out == len(GAINS) - len(expected)


def test_other_metrics_are_simulated() -> None:
    """A metric without a formula comes near its mean over all orders, and each seed gives one value."""
    gains, docs = [{0: 1.0, 1: 0.0, 2: 0.0}] * 100, [[0, 1, 2]] * 100
    found = random_values(["Rprec"], gains, docs)

    assert found["Rprec"].mean == pytest.approx(1 / 3, rel=0.05)
    assert random_values(["Rprec"], gains, docs) == found
    assert random_values(["Rprec"], gains, docs, seed=1) != found


def test_the_ceiling_is_the_best_of_all_orders() -> None:
    """Below 1 where a relevant document is no candidate."""
    for metric in ("nDCG@3", "AP", "RR"):
        best = measure_scores([metric], GAINS[:1], [best_scores(CANDIDATES[0], GAINS[0])])[metric].mean
        orders = [file_order_scores(order) for order in permutations(CANDIDATES[0])]
        assert best == max(measure_scores([metric], GAINS[:1] * len(orders), orders)[metric].values)
    assert measure_scores(["AP"], GAINS[:1], [best_scores(CANDIDATES[0], GAINS[0])])["AP"].mean < 1


def test_bm25_ranks_the_candidates_of_each_query() -> None:
    """With the document frequencies of all candidates; a text that two queries share is indexed once."""
    texts = [{"a": "a panda eats bamboo", "b": "a car"}, {"b": "a car", "c": "熊猫吃竹子"}]
    found = bm25_scores(["panda bamboo", "竹子"], texts)
    whole = BM25(["a panda eats bamboo", "a car", "熊猫吃竹子"])

    assert found == [
        {"a": float(whole.scores("panda bamboo")[0]), "b": 0.0},
        {"b": 0.0, "c": float(whole.scores("竹子")[2])},
    ]
    assert found[0]["a"] > 0
    assert found[1]["c"] > 0
