"""`Combine`: the maths of late fusion, against plain sums written here, and the values that it refuses."""

from __future__ import annotations

import math
import pickle
import statistics
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rerank_core import Combine, InputError
from rerank_core.combine import combined_scores, finite_number

METHODS = [Combine.rrf(), Combine.weighted(0.3), Combine.weighted(0.3, "minmax")]
NORMALIZED = METHODS[1:]
NAMES = ["rrf", "zscore", "minmax"]
few = settings(max_examples=40, deadline=None)
# Eighths up to a thousand: sums and differences of a few of them are exact, so equal stays equal.
score = st.integers(-8000, 8000).map(lambda number: number / 8)


@st.composite
def lists(draw: st.DrawFn, count: int = 2, least: int = 0) -> list[list[float]]:
    """Scores of the same documents by several rankings."""
    size = draw(st.integers(least, 12))
    return [draw(st.lists(score, min_size=size, max_size=size)) for _ in range(count)]


def order(scores: list[float]) -> list[int]:
    """Documents, best first; equal scores in the caller's order."""
    return sorted(range(len(scores)), key=lambda doc: (-scores[doc], doc))


def test_rrf_is_the_sum_of_the_paper() -> None:
    """score(d) = sum of weight / (k + rank(d)), Cormack, Clarke & Büttcher 2009."""
    ours, retriever = [0.1, 0.9, 0.5], [30.0, 10.0, 20.0]

    assert combined_scores(Combine.rrf(), [ours], [1.0], retriever) == pytest.approx(
        [1 / 63 + 1 / 61, 1 / 61 + 1 / 63, 1 / 62 + 1 / 62]
    )
    assert combined_scores(Combine.rrf(k=1), [ours, retriever], [1.0, 2.0]) == pytest.approx(
        [1 / 4 + 2 / 2, 1 / 2 + 2 / 4, 1 / 3 + 2 / 3]
    )


def test_rrf_gives_equal_scores_the_best_of_their_ranks() -> None:
    """Ranks are 1, 2, 2, 4."""
    assert combined_scores(Combine.rrf(k=0), [[3.0, 2.0, 2.0, 1.0]], [1.0]) == [1, 1 / 2, 1 / 2, 1 / 4]


@few
@given(lists())
def test_weighted_is_the_mean_of_normalized_scores(both: list[list[float]]) -> None:
    """(1 - share) * model + share * first stage, each as z-scores or scaled to 0 to 1."""
    ours, retriever = both

    def zscore(values: list[float]) -> list[float]:
        if len(set(values)) < 2:
            return [0.0 for _ in values]
        return [(value - statistics.mean(values)) / statistics.pstdev(values) for value in values]

    def minmax(values: list[float]) -> list[float]:
        if len(set(values)) < 2:
            return [0.5 for _ in values]
        return [(value - min(values)) / (max(values) - min(values)) for value in values]

    for combine, normal in zip(NORMALIZED, (zscore, minmax), strict=True):
        expected = [0.7 * a + 0.3 * b for a, b in zip(normal(ours), normal(retriever), strict=True)]
        assert combined_scores(combine, [ours], [1.0], retriever) == pytest.approx(expected, abs=1e-9)


@few
@given(lists(count=3))
def test_models_share_what_the_first_stage_leaves(three: list[list[float]]) -> None:
    """Weights 1 and 3 are a quarter and three quarters; with the first stage's 0.2, 0.2 and 0.6. Their scale counts
    for nothing."""
    a, b, retriever = three
    combine = Combine.weighted(0.2)
    scaled = combined_scores(combine, [a, b], [1e200, 3e200], retriever)

    assert combined_scores(combine, [a, b], [1.0, 3.0], retriever) == pytest.approx(scaled, abs=1e-9)
    parts = [combined_scores(combine, [values], [1.0]) for values in three]
    expected = [0.2 * x + 0.6 * y + 0.2 * z for x, y, z in zip(*parts, strict=True)]
    assert scaled == pytest.approx(expected, abs=1e-9)
    pair = combined_scores(combine, [a, b], [1.0, 3.0])
    assert pair == pytest.approx([0.25 * x + 0.75 * y for x, y, _ in zip(*parts, strict=True)], abs=1e-9)


@pytest.mark.parametrize("normalize", ["zscore", "minmax"])
@few
@given(lists())
def test_shares_of_nothing_and_all_give_either_order(normalize: Any, both: list[list[float]]) -> None:
    """A share of 0 is the model's order, a share of 1 the retriever's."""
    ours, retriever = both

    assert order(combined_scores(Combine.weighted(0, normalize), [ours], [1.0], retriever)) == order(ours)
    assert order(combined_scores(Combine.weighted(1, normalize), [ours], [1.0], retriever)) == order(retriever)


@pytest.mark.parametrize("combine", METHODS, ids=NAMES)
@few
@given(data=st.data(), both=lists())
def test_the_order_of_documents_is_no_matter(combine: Combine, data: st.DataObject, both: list[list[float]]) -> None:
    """Permuted documents have the same scores, to the bit."""
    ours, retriever = both
    permutation = data.draw(st.permutations(range(len(ours))))
    scores = combined_scores(combine, [ours], [1.0], retriever)
    permuted = combined_scores(
        combine, [[ours[doc] for doc in permutation]], [1.0], [retriever[doc] for doc in permutation]
    )

    assert permuted == [scores[doc] for doc in permutation]


@pytest.mark.parametrize("combine", METHODS, ids=NAMES)
@few
@given(both=lists(), shift=score, factor=st.sampled_from([0.25, 1.0, 8.0]))
def test_origin_and_scale_of_a_list_are_no_matter(
    combine: Combine, both: list[list[float]], shift: float, factor: float
) -> None:
    """A constant added to a list of scores, or a positive factor, changes nothing."""
    ours, retriever = both
    moved = [factor * value + shift for value in retriever]
    scores = combined_scores(combine, [ours], [1.0], retriever)

    assert combined_scores(combine, [ours], [1.0], moved) == pytest.approx(scores, abs=1e-7)


@pytest.mark.parametrize("combine", METHODS, ids=NAMES)
@few
@given(both=lists())
def test_distances_are_scores_with_the_other_sign(combine: Combine, both: list[list[float]]) -> None:
    """`lower_is_better` reads distances."""
    ours, distances = both
    changed = replace(combine, lower_is_better=True)
    scores = combined_scores(combine, [ours], [1.0], [-value for value in distances])

    assert combined_scores(changed, [ours], [1.0], distances) == scores


@pytest.mark.parametrize("combine", METHODS, ids=NAMES)
@pytest.mark.parametrize("lower", [False, True])
def test_a_missing_score_is_as_bad_as_the_worst(combine: Combine, lower: bool) -> None:
    """A document that the first stage did not find has the worst of its scores; where it found none, all are equal."""
    changed = replace(combine, lower_is_better=lower)
    ours = [0.1, 0.2, 0.3]
    worst = 9.0 if lower else 2.0

    assert combined_scores(changed, [ours], [1.0], [9.0, None, 2.0]) == combined_scores(
        changed, [ours], [1.0], [9.0, worst, 2.0]
    )
    assert order(combined_scores(changed, [ours], [1.0], [None, None, None])) == [2, 1, 0]


@pytest.mark.parametrize("combine", METHODS, ids=NAMES)
def test_no_document_one_and_equal_scores(combine: Combine) -> None:
    """Nothing gives nothing; one document has the value of constant scores; constant scores prefer no document."""
    alone = {"rrf": 2 / 61, "zscore": 0.0, "minmax": 0.5}[combine.normalize or combine.method]

    assert combined_scores(combine, [[]], [1.0], []) == []
    assert combined_scores(combine, [[7.0]], [1.0], [-3.0]) == [pytest.approx(alone)]
    assert order(combined_scores(combine, [[1.0, 2.0]], [1.0], [5.0, 5.0])) == [1, 0]
    assert len(set(combined_scores(combine, [[1.0, 1.0]], [1.0], [5.0, 5.0]))) == 1


def test_documents_with_swapped_ranks_tie_exactly() -> None:
    """Ranks 1, 2, 3 of three rankings sum to the same number in every order."""
    scores = combined_scores(Combine.rrf(), [[3, 2, 1], [2, 1, 3], [1, 3, 2]], [1.0, 1.0, 1.0])

    assert len(set(scores)) == 1


@pytest.mark.parametrize("combine", NORMALIZED, ids=NAMES[1:])
@pytest.mark.parametrize("values", [[1.7e308, -1.7e308, 0.0], [5e-324, 0.0, -5e-324], [1.0, 1.0 + 2**-52, 0.9]])
def test_the_largest_and_smallest_numbers_are_finite(combine: Combine, values: list[float]) -> None:
    """Differences and squares neither overflow nor vanish."""
    scores = combined_scores(combine, [values], [1.0])

    assert all(map(math.isfinite, scores))
    assert order(scores) == order(values)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: Combine.rrf(-1), "k is -1"),
        (lambda: Combine.rrf(math.nan), "k is nan"),
        (lambda: Combine.rrf("60"), "k is '60'"),  # type: ignore[arg-type]
        (lambda: Combine.rrf(True), "k is True"),
        (lambda: Combine.rrf(10**400), "k is 1000"),
        (lambda: Combine.weighted(1.5), "first_stage is 1.5.*from 0 to 1"),
        (lambda: Combine.weighted([0.1, 0.2]), "argument of rerank"),  # type: ignore[arg-type]
        (lambda: Combine.weighted(normalize="softmax"), "'zscore', 'minmax'"),  # type: ignore[arg-type]
        (lambda: Combine.weighted(normalize=None), "normalize is None"),  # type: ignore[arg-type]
        (lambda: Combine.rrf(missing="skip"), "'error', 'worst'"),  # type: ignore[arg-type]
        (lambda: Combine.rrf(field=""), "field is ''"),
        (lambda: Combine.rrf(lower_is_better="yes"), "True or False"),  # type: ignore[arg-type]
        (lambda: Combine("mean"), "'rrf', 'weighted'"),  # type: ignore[arg-type]
        (lambda: Combine("rrf"), "k is None"),
        (lambda: Combine("rrf", 60, first_stage=0.2), "no effect with 'rrf'"),
        (lambda: Combine("weighted", 60, 0.2, "zscore"), "k=60 has no effect"),
    ],
)
def test_what_cannot_be_is_refused(made: Any, said: str) -> None:
    """A setting that cannot be used, or has no effect, is an InputError that shows it."""
    with pytest.raises(InputError, match=said):
        made()


def test_it_is_plain_data() -> None:
    """Equal settings are equal, hashable and can be pickled."""
    assert pickle.loads(pickle.dumps(Combine.weighted(0.5))) == Combine.weighted(0.5)
    assert len({Combine.rrf(60), Combine.rrf(60.0), Combine.rrf(61)}) == 2


@pytest.mark.parametrize("value", [3, 3.0, Decimal(3), memoryview(b"\3")[0]])
def test_numbers_of_any_kind_are_numbers(value: Any) -> None:
    """What converts to a finite float is a number."""
    assert finite_number(value) == 3.0


@pytest.mark.parametrize("value", [None, "3", b"3", True, math.nan, math.inf, 10**400, [3], 3j, object()])
def test_what_is_no_number(value: Any) -> None:
    """Texts, truth values, NaN and infinities are none."""
    assert finite_number(value) is None
