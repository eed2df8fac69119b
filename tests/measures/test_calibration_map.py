"""`CalibrationMap`: values, order, files."""

from __future__ import annotations

import json
import math
import random
from itertools import pairwise
from typing import Any

import pytest

from rerank_core import InputError
from rerank_core.measures.calibration_map import CalibrationMap

ISOTONIC = CalibrationMap("isotonic", points=((-1.0, 0.1), (0.0, 0.1), (2.0, 0.7)))
MAPS = [CalibrationMap("platt", 2.0, -1.0), CalibrationMap("temperature", 0.5), ISOTONIC]


@pytest.mark.parametrize(
    ("score", "expected"), [(-9.0, 0.1), (-0.5, 0.1), (0.0, 0.1), (1.0, 0.4), (2.0, 0.7), (9, 0.7)]
)
def test_isotonic_is_linear_between_points_and_constant_outside(score: float, expected: float) -> None:
    assert ISOTONIC(score) == pytest.approx(expected, abs=1e-15)


def test_sigmoid_of_the_scaled_score() -> None:
    assert MAPS[0].logit(1.5) == 2.0
    with pytest.raises(InputError, match="no scale"):
        ISOTONIC.logit(1.5)
    assert MAPS[0](1.5) == pytest.approx(1 / (1 + math.exp(-2.0)), abs=1e-15)
    assert MAPS[1](0.0) == 0.5


@pytest.mark.parametrize("mapping", MAPS, ids=lambda mapping: mapping.method)
def test_probabilities_lie_in_range_and_never_fall(mapping: CalibrationMap) -> None:
    chance = random.Random(0)
    extremes = [-1.7e308, 1.7e308, -1000.0, 1000.0, 5e-324]
    scores = sorted([*(chance.uniform(-5, 5) for _ in range(500)), *extremes])
    probabilities = [mapping(score) for score in scores]

    assert all(0 <= one <= 1 for one in probabilities)
    assert all(one <= following + 1e-15 for one, following in pairwise(probabilities))


def test_points_far_apart_do_not_overflow() -> None:
    assert CalibrationMap("isotonic", points=((-1.5e308, 0.0), (1.5e308, 1.0)))(0.0) == 0.5


@pytest.mark.parametrize("mapping", MAPS, ids=lambda mapping: mapping.method)
def test_a_file_keeps_the_map(mapping: CalibrationMap) -> None:
    assert CalibrationMap.from_json(json.loads(json.dumps(mapping.to_json()))) == mapping


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_has_no_probability(score: float) -> None:
    with pytest.raises(InputError, match="only finite"):
        ISOTONIC(score)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "must be a JSON object"),
        ({}, "method of a calibration is None"),
        ({"method": "beta", "scale": 1}, "'beta'; it must be one of 'platt'"),
        ({"method": "platt", "scale": 1.0}, r"missing: \['offset'\]"),
        ({"method": "temperature", "scale": 1.0, "offset": 0.0}, r"missing: \['offset'\]"),
        ({"method": "platt", "scale": 0.0, "offset": 0.0}, "must be above 0"),
        ({"method": "platt", "scale": math.nan, "offset": 0.0}, "must be above 0"),
        ({"method": "platt", "scale": True, "offset": 0.0}, "scale of a calibration is True"),
        ({"method": "platt", "scale": "1", "offset": 0.0}, "must be a number"),
        ({"method": "platt", "scale": 10**400, "offset": 0.0}, "must be a number"),
        ({"method": "isotonic", "points": []}, "one point or more"),
        ({"method": "isotonic", "points": 3}, "pairs of two numbers"),
        ({"method": "isotonic", "points": [[1, 0.5, 3]]}, "pairs of two numbers"),
        ({"method": "isotonic", "points": [[0, 0.5], [0, 0.6]]}, "scores must increase"),
        ({"method": "isotonic", "points": [[0, 0.5], [1, 0.4]]}, "must not decrease"),
        ({"method": "isotonic", "points": [[0, 1.5]]}, r"probability in \[0, 1\]"),
        ({"method": "isotonic", "points": [[math.inf, 0.5]]}, "not a finite score"),
    ],
)
def test_a_damaged_file_is_refused(data: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        CalibrationMap.from_json(data)


def test_values_of_another_method_are_refused() -> None:
    with pytest.raises(InputError, match="no scale"):
        CalibrationMap("isotonic", scale=2.0, points=((0.0, 0.5),))
    with pytest.raises(InputError, match="no points"):
        CalibrationMap("platt", points=((0.0, 0.5),))
    with pytest.raises(InputError, match="use 'platt'"):
        CalibrationMap("temperature", 1.0, 0.5)
