"""C-MTEB's two definitions of MAP are those of mteb's own code, 1.x and 2.x, on scores with ties."""

from __future__ import annotations

import random
from typing import Any

import pytest

from rerank_core.measures import measure_scores

Query = dict[str, list[float]]


def queries(seed: int) -> list[Query]:
    """Queries of 0 to 40 documents, most scores equal to others, some in float32 alone; one of 1,002 documents."""
    draw = random.Random(seed)

    def scores(count: int) -> list[float]:
        return [draw.randint(-3, 3) / 7 + draw.choice([0, 0, 1e-9, draw.random()]) for _ in range(count)]

    sizes = [(draw.randint(0, 8), draw.randint(0, 32)) for _ in range(60)]
    return [
        {"positive": scores(some), "negative": scores(others)} for some, others in [*sizes, (3, 999), (1, 1), (0, 5)]
    ]


def ours(asked: list[Query], metric: str) -> Any:
    scores = [dict(enumerate(query["positive"] + query["negative"])) for query in asked]
    gains = [{at: float(at < len(query["positive"])) for at in own} for query, own in zip(asked, scores, strict=True)]
    return measure_scores([metric], gains, scores)[metric]


@pytest.mark.parametrize("seed", range(3))
def test_map_is_that_of_mteb_1(mteb_1: Any, seed: int) -> None:
    asked = queries(seed)
    found = ours(asked, "map")

    assert found.mean == pytest.approx(mteb_1.send(queries=asked)["mean"], abs=1e-12)
    assert found.left_out > 0


@pytest.mark.parametrize("seed", range(3))
def test_map_at_1000_is_that_of_mteb_2(mteb_2: Any, seed: int) -> None:
    asked = queries(seed)
    found, theirs = ours(asked, "map_at_1000"), mteb_2.send(queries=asked)

    assert found.values == pytest.approx(theirs["values"], abs=1e-12)
    assert found.mean == pytest.approx(theirs["mean"], abs=1e-5)
