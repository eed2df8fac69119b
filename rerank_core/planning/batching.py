"""Which rows share a forward pass. Pure: lengths in, positions out."""

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

    A batch costs the tokens the model computes: the sum of its rows where they are packed, the longest row times
    their number where they are padded; and once more each query row that its rows refer to. Where there are query
    rows, the rows of one query stay together. A row that alone is over the budget gets a batch of its own.

    Args:
        lengths: tokens of each row.
        owners: the query of each row.
        query_lengths: tokens of each query row; empty for joint layouts.

    >>> batches([5, 9, 4, 8], [0, 0, 0, 0], {}, budget=18, packed=False)
    [[1, 3], [0, 2]]
    """
    order = sorted(
        range(len(lengths)),
        key=lambda row: (owners[row] if query_lengths else 0, -lengths[row], row),
    )
    batches: list[list[int]] = []
    widest = total = shared = 0
    queries: set[int] = set()
    for row in order:
        query = owners[row]
        extra = 0 if query in queries else query_lengths.get(query, 0)
        count = len(batches[-1]) + 1 if batches else 1
        cost = total + lengths[row] if packed else max(widest, lengths[row]) * count
        if not batches or cost + shared + extra > budget:
            batches.append([])
            widest = total = shared = 0
            queries = set()
            extra = query_lengths.get(query, 0)
        batches[-1].append(row)
        widest = max(widest, lengths[row])
        total += lengths[row]
        shared += extra
        queries.add(query)
    return batches
