"""`batches`: which rows share a forward pass, as a pure function of their lengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = ["batches"]


def batches(
    lengths: Sequence[int],
    owners: Sequence[int],
    query_lengths: Mapping[int, int],
    *,
    budget: int,
    packed: bool,
) -> list[list[int]]:
    """Batches of row positions, longest rows first, each within ``budget`` tokens.

    The cost of a batch is the number of tokens that the model computes: the sum of its rows' lengths where they are
    packed, the longest row times the number of rows where they are padded; plus once each query row that its rows refer
    to. Where there are query rows, the rows of one query stay together. A row longer than the budget gets a batch of
    its own.

    Args:
        lengths: tokens of each row.
        owners: the position of each row's query.
        query_lengths: tokens of each query row; empty for the layout ``joint``.

    >>> batches([5, 9, 4, 8], [0, 0, 0, 0], {}, budget=18, packed=False)
    [[1, 3], [0, 2]]
    """
    order = sorted(
        range(len(lengths)),
        key=lambda row: (owners[row] if query_lengths else 0, -lengths[row], row),
    )
    batches: list[list[int]] = []
    longest = total = query_tokens = 0
    queries: set[int] = set()
    for row in order:
        query = owners[row]
        extra = 0 if query in queries else query_lengths.get(query, 0)
        count = len(batches[-1]) + 1 if batches else 1
        cost = total + lengths[row] if packed else max(longest, lengths[row]) * count
        if not batches or cost + query_tokens + extra > budget:
            batches.append([])
            longest = total = query_tokens = 0
            queries = set()
            extra = query_lengths.get(query, 0)
        batches[-1].append(row)
        longest = max(longest, lengths[row])
        total += lengths[row]
        query_tokens += extra
        queries.add(query)
    return batches
