"""What a label is worth."""

from __future__ import annotations

import pytest

from rerank_core.errors import InputError
from rerank_core.records.label_scale import LabelScale


def test_linear() -> None:
    """(label - low) / (high - low), as RAG-Retrieval's reranker does since 2025: 0, 1, 2 are 0, 0.5, 1."""
    assert LabelScale(0, 2).apply([0, 1, 2]) == (0.0, 0.5, 1.0)
    assert LabelScale(-1, 1)(0) == 0.5
    assert LabelScale()(0.982) == 0.982


def test_grades_of_2024() -> None:
    """RAG-Retrieval until December 2024: 3, 2, 1, 0 are 1, .75, .5, .25, and nothing lies between."""
    scale = LabelScale.named("rag-retrieval-2024")
    assert scale.apply([3, 2, 1, 0]) == (1.0, 0.75, 0.5, 0.25)
    with pytest.raises(InputError, match=r"label 1.5 is not one of 0, 1, 2, 3"):
        scale(1.5)


@pytest.mark.parametrize("label", [-0.01, 3.01, float("nan"), float("inf")])
def test_labels_outside_are_refused(label: float) -> None:
    """A label outside the scale raises with its value, NaN too."""
    with pytest.raises(InputError, match=f"label {label!r} is outside 0 to 3"):
        LabelScale.named("3-2-1-0")(label)


def test_from_a_configuration() -> None:
    """A name, a range and a mapping, also with the string keys of JSON."""
    assert LabelScale.of("binary") == LabelScale.of("0,1") == LabelScale.of((0, 1)) == LabelScale()
    assert LabelScale.of({"0": 0, "2": 1.0, "1": 0.3}).apply([0, 1, 2]) == (0.0, 0.3, 1.0)
    assert LabelScale.of(LabelScale(0, 5)) == LabelScale(0, 5)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("three", "label scale 'three' is unknown; use one of binary"),
        ("0,1,2", "must consist of numbers"),
        ("a,b", "must consist of numbers"),
        ((1, 0), "two finite numbers in ascending order"),
        ((0, float("nan")), "two finite numbers in ascending order"),
        ({}, "must consist of numbers"),
        ({0: 0, 1: 2}, "the target of label 1.0 is 2.0; it must be from 0 to 1"),
        (7, "must consist of numbers"),
    ],
)
def test_what_is_no_scale(value: object, message: str) -> None:
    """Anything else is refused with its value."""
    with pytest.raises(InputError, match=message):
        LabelScale.of(value)  # type: ignore[arg-type]
