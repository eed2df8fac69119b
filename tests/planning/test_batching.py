"""Every row is planned once, within the budget, long rows first."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank_core.planning.batching import batches

ROWS = st.lists(st.tuples(st.integers(1, 50), st.integers(0, 4)), max_size=60)


def cost(batch: list[int], lengths: list[int], owners: list[int], queries: dict[int, int], packed: bool) -> int:
    """Tokens the model computes for a batch, written down once more, plainly."""
    rows = [lengths[row] for row in batch]
    shared = sum(queries.get(owner, 0) for owner in {owners[row] for row in batch})
    return (sum(rows) if packed else max(rows) * len(rows)) + shared


@given(ROWS, st.integers(1, 300), st.booleans(), st.booleans())
def test_plan_is_complete_and_within_budget(
    rows: list[tuple[int, int]], budget: int, packed: bool, shared: bool
) -> None:
    """Each row is in one batch; a batch over the budget is a single row that cannot be split."""
    lengths = [length for length, _ in rows]
    owners = [owner for _, owner in rows]
    queries = dict.fromkeys(owners, 7) if shared else {}
    planned = batches(lengths, owners, queries, budget=budget, packed=packed)

    assert sorted(row for batch in planned for row in batch) == list(range(len(rows)))
    assert all(len(batch) == 1 or cost(batch, lengths, owners, queries, packed) <= budget for batch in planned)


@given(ROWS, st.integers(1, 300))
def test_joint_rows_go_longest_first(rows: list[tuple[int, int]], budget: int) -> None:
    """The first batch is the widest, so a batch that is too much fails at once and not at the end."""
    lengths = [length for length, _ in rows]
    order = [
        lengths[row] for batch in batches(lengths, [0] * len(rows), {}, budget=budget, packed=False) for row in batch
    ]

    assert order == sorted(order, reverse=True)


@given(ROWS, st.integers(1, 300))
def test_rows_of_a_query_stay_together(rows: list[tuple[int, int]], budget: int) -> None:
    """Where rows share a query row, the queries come one after the other, so that each is laid down few times."""
    owners = [owner for _, owner in rows]
    queries = dict.fromkeys(owners, 7)
    order = [
        owners[row]
        for batch in batches([length for length, _ in rows], owners, queries, budget=budget, packed=True)
        for row in batch
    ]

    assert order == sorted(order)


def test_packed_rows_fill_what_padding_would_waste() -> None:
    """The same rows take fewer batches where no padding is computed."""
    lengths = [50, 1, 1, 1, 1, 1]
    padded = batches(lengths, [0] * 6, {}, budget=60, packed=False)
    packed = batches(lengths, [0] * 6, {}, budget=60, packed=True)

    assert (padded, packed) == ([[0], [1, 2, 3, 4, 5]], [[0, 1, 2, 3, 4, 5]])


def test_query_row_is_counted_once_a_batch() -> None:
    """Two rows of one query cost its row once, two queries cost both."""
    assert batches([10, 10], [0, 0], {0: 20}, budget=40, packed=True) == [[0, 1]]
    assert batches([10, 10], [0, 1], {0: 20, 1: 20}, budget=40, packed=True) == [[0], [1]]


@pytest.mark.parametrize("packed", [True, False])
def test_nothing_to_plan(packed: bool) -> None:
    """No rows, no batches."""
    assert batches([], [], {}, budget=10, packed=packed) == []
