"""Windows cover every token, none is empty, and scores combine as their papers say."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank_core import FirstP, InputError, KMaxP, MaxP, MeanP
from rerank_core.planning.longdoc import default_overlap, longdoc_of, windows

SIZES = st.integers(1, 60).flatmap(lambda room: st.tuples(st.just(room), st.integers(0, room - 1)))


@given(st.integers(0, 500), SIZES)
def test_windows_cover_every_token_in_order(length: int, sizes: tuple[int, int]) -> None:
    """Windows run from the first token to the last, none over the room, neighbours sharing exactly the overlap."""
    room, overlap = sizes
    spans = windows(length, room, overlap)

    assert (spans[0][0], spans[-1][1]) == (0, length)
    assert all(stop - start <= room for start, stop in spans)
    assert all(stop - following == overlap for (_, stop), (following, _) in pairwise(spans))


@given(st.integers(1, 500), SIZES)
def test_windows_are_as_few_as_the_formula_says(length: int, sizes: tuple[int, int]) -> None:
    """n = 1 + ceil((D - W) / (W - o)), and the last window holds more than the overlap (scoring.md §5.1)."""
    room, overlap = sizes
    spans = windows(length, room, overlap)

    assert len(spans) == 1 + max(0, -((length - room) // -(room - overlap)))
    assert len(spans) == 1 or spans[-1][1] - spans[-1][0] > overlap


@pytest.mark.parametrize(("room", "overlap"), [(0, 0), (-3, 0), (4, 4), (4, 5), (4, -1)])
def test_no_room_and_no_step_are_refused(room: int, overlap: int) -> None:
    """A window without room or without a step forward is an InputError, not an endless loop."""
    with pytest.raises(InputError):
        windows(10, room, overlap)


def test_default_overlap_is_a_quarter_and_at_most_eighty() -> None:
    """BCEmbedding's rule: min(80, W // 4)."""
    assert [default_overlap(room) for room in (3, 100, 400, 500)] == [0, 25, 80, 80]


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [(FirstP(), 1.0), (MaxP(), 5.0), (MeanP(), 2.5), (KMaxP(1), 5.0), (KMaxP(2), 4.0), (KMaxP(9), 2.5)],
)
def test_combination(strategy: MaxP, expected: float) -> None:
    """First, best, mean and mean of the k best of the windows' scores."""
    assert strategy.combine([1.0, 3.0, 5.0, 1.0]) == expected


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=8))
def test_kmaxp_lies_between_mean_and_max(scores: list[float]) -> None:
    """KMaxP(1) is MaxP, KMaxP(n) is MeanP."""
    assert KMaxP(1).combine(scores) == MaxP().combine(scores)
    assert KMaxP(len(scores)).combine(scores) == pytest.approx(MeanP().combine(scores), abs=1e-9)


def test_firstp_reads_one_window() -> None:
    """FirstP reads what fits and no more."""
    assert FirstP().windows(100, 30, 5) == [(0, 30)]
    assert FirstP().windows(0, 30, 5) == [(0, 0)]


@pytest.mark.parametrize("name", ["firstp", "maxp", "meanp", "kmaxp:4"])
def test_names_round_trip(name: str) -> None:
    """A strategy's name is what `longdoc=` takes."""
    assert longdoc_of(name).name == name
    assert longdoc_of(longdoc_of(name)) == longdoc_of(name)


@pytest.mark.parametrize("value", ["max", "maxp:3", "kmaxp:", "kmaxp:0", "kmaxp:-1", "", 3, None])
def test_unknown_strategies_are_refused(value: object) -> None:
    """Anything else is an InputError that lists the valid names."""
    with pytest.raises(InputError, match=r"kmaxp|positive"):
        longdoc_of(value)  # type: ignore[arg-type]
