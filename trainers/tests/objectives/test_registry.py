"""Names and options become objectives, or errors that help; sums of objectives are objectives."""

from __future__ import annotations

import math
import pickle
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
import torch
from helpers.steps import on_groups

from rerank_core import InputError
from rerank_trainers.objectives import registry
from rerank_trainers.objectives.base import Needs, Objective
from rerank_trainers.objectives.distillation import KL, MarginMSE
from rerank_trainers.objectives.listwise import SoftmaxCE
from rerank_trainers.objectives.pairwise import LambdaLoss
from rerank_trainers.objectives.pointwise import BCE
from rerank_trainers.objectives.registry import OBJECTIVES, make_objective
from rerank_trainers.objectives.weighted import weighted_sum


def test_names_are_sorted_and_make_their_objectives() -> None:
    """Every name makes an objective of that name, and the table in the documentation lists them all."""
    assert list(OBJECTIVES) == [
        "bce",
        "cosent",
        "embed_distill",
        "infonce",
        "kl",
        "lambda",
        "listnet",
        "margin_mse",
        "mse",
        "ranknet",
        "similarity_distill",
        "similarity_order",
        "softmax_ce",
        "stella",
    ]
    for name, found in OBJECTIVES.items():
        made = make_objective(name)
        assert type(made) is found
        assert made.name == name
        assert isinstance(made, Objective)
        assert f"| `{name}` |" in (registry.__doc__ or "")


def test_options_are_fields() -> None:
    """Options reach the objective, which compares, pickles and refuses to be changed."""
    made = make_objective("kl", teacher_temperature=2, student_temperature=0.5)
    assert made == KL(teacher_temperature=2, student_temperature=0.5)
    assert pickle.loads(pickle.dumps(made)) == made
    with pytest.raises(FrozenInstanceError):
        made.teacher_temperature = 1  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("softmax-ce", {}, "'softmax-ce'.*did you mean 'softmax_ce'"),
        ("RankNet", {}, "did you mean 'ranknet'"),
        ("contrastive", {}, "'contrastive'; .*must be one of 'bce', 'cosent', "),
        (None, {}, "None"),
        ("kl", {"teacher_temprature": 2}, "kl has no option 'teacher_temprature'; did you mean 'teacher_temperature'"),
        ("bce", {"k": 2}, "bce has no option 'k'"),
    ],
)
def test_unknown_names_and_options_name_the_nearest(name: Any, options: dict[str, Any], words: str) -> None:
    """A slip of the pen is scores_from with what was meant, and anything else with what there is."""
    with pytest.raises(InputError, match=words):
        make_objective(name, **options)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *(("bce", {"pos_weight": value}) for value in (0, -1.0, math.inf, math.nan, True, "2")),
        ("bce", {"teacher_space": "cosine"}),
        ("mse", {"teacher_space": "labels"}),
        ("ranknet", {"normalise": None}),
        *(("lambda", {"k": value}) for value in (0, -1, 2.0, True, "10")),
        ("lambda", {"gain": "log"}),
        *(("lambda", {option: value}) for option in ("max_grade", "sigma") for value in (0, -1, math.nan)),
        *(("lambda", {"mu": value}) for value in (-1, math.inf, math.nan, "10")),
        *(("listnet", {"tau": value}) for value in (0, -0.1, math.nan)),
        ("softmax_ce", {"multi_positive": "all"}),
        ("softmax_ce", {"target": "soft"}),
        ("softmax_ce", {"max_grade": 0}),
        ("softmax_ce", {"multi_positive": "each", "target": "softmax_of_labels"}),
        ("margin_mse", {"pairs": "positive"}),
        *(("kl", {option: 0}) for option in ("teacher_temperature", "student_temperature")),
    ],
)
def test_values_that_cannot_be_are_refused(name: str, options: dict[str, Any]) -> None:
    """A wrong value is an error that names the objective, the option and the value, before anything is trained."""
    option, value = next(iter(options.items()))
    with pytest.raises(InputError, match=name) as caught:
        make_objective(name, **options)
    assert option in str(caught.value)
    assert repr(value) in str(caught.value)


def test_a_sum_is_the_sum_and_needs_what_its_parts_need() -> None:
    """Losses add up group by group; needs are joined; the bias counts as soon as one part sees it."""
    parts = ((1, SoftmaxCE()), (0.1, BCE()), (2.5, MarginMSE()))
    added = weighted_sum(parts)
    generator = torch.Generator().manual_seed(0)
    scores, teacher = torch.randn(2, 3, 4, generator=generator)
    labels, mask = torch.tensor([[1.0, 0, 0, 0.5]] * 3), torch.ones(3, 4, dtype=torch.bool)

    expected = sum(weight * part(scores, labels, teacher, mask) for weight, part in parts)
    torch.testing.assert_close(on_groups(added, scores, labels, teacher, mask), expected)
    assert added.name == "softmax_ce + 0.1*bce + 2.5*margin_mse"
    assert added.needs == Needs(labels=True, scores=True, docs=2)
    assert not added.shift_invariant
    assert weighted_sum([(1, SoftmaxCE()), (1, LambdaLoss())]).shift_invariant
    assert isinstance(added, Objective)
    assert on_groups(weighted_sum([(2, added)]), scores, labels, teacher, mask).tolist() == pytest.approx(
        (2 * expected).tolist()
    )


def test_rows_without_negatives_suffice_if_every_part_that_reads_labels_takes_them_from_other_rows() -> None:
    """In-batch negatives, alone or beside a teacher; not beside an objective that reads the labels of own documents."""
    infonce = make_objective("infonce")
    assert infonce.needs.other_rows
    assert weighted_sum([(1, KL()), (1, infonce)]).needs.other_rows
    assert weighted_sum([(1, infonce), (1, infonce)]).needs.other_rows
    assert not weighted_sum([(1, infonce), (1, BCE())]).needs.other_rows
    assert not weighted_sum([(1, KL()), (1, MarginMSE())]).needs.other_rows


@pytest.mark.parametrize(
    "parts", [[], [(0, BCE())], [(-1.0, BCE())], [(math.nan, BCE())], [BCE()], [(1.0, "bce")], [(1.0, BCE(), 2)]]
)
def test_sums_that_make_no_sense_are_refused(parts: Any) -> None:
    """No part, a weight that is no number above 0, or something that is no objective."""
    with pytest.raises(InputError):
        weighted_sum(parts)
