"""`batches`: which rows share a forward pass, as a pure function of their lengths."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["batches"]

# The rows of a query are divided among workers if laying down its query row once for each adds less than this share.
_REPEATED = 0.1


def batches(
    lengths: Sequence[int],
    owners: Sequence[int],
    query_lengths: Mapping[int, int],
    *,
    budget: int,
    packed: bool,
    workers: int = 1,
) -> list[list[int]]:
    """Batches of row positions, longest rows first; as many as there are workers have together at most ``budget``
    tokens.

    The cost of a batch is the number of tokens that the model computes: the sum of its rows' lengths where they are
    packed, the longest row times the number of rows where they are padded; plus once each query row that its rows refer
    to. Where there are query rows, the rows of one query stay together. A row longer than the budget gets a batch of
    its own.

    With several workers, rows are divided so that all workers have about the same cost and finish together. Fewer rows
    than workers are one batch.

    Args:
        lengths: tokens of each row.
        owners: the position of each row's query.
        query_lengths: tokens of each query row; empty for the layout ``joint``.
        workers: number of batches that are computed at the same time.

    >>> batches([5, 9, 4, 8], [0, 0, 0, 0], {}, budget=18, packed=False)
    [[1, 3], [0, 2]]
    >>> batches([5, 9, 4, 8], [0, 0, 0, 0], {}, budget=36, packed=True, workers=2)
    [[1, 2], [3, 0]]
    """
    rows = _Rows(lengths, owners, query_lengths, packed)
    order = sorted(
        range(len(lengths)),
        key=lambda row: (owners[row] if query_lengths else 0, -lengths[row], row),
    )
    rounds = rows.fill(order, budget)
    if workers == 1 or len(lengths) < workers:
        return rounds
    return [batch for some in rounds for batch in rows.divide(some, workers, budget // workers)]


@dataclass(frozen=True, eq=False, repr=False)
class _Rows:
    """The rows of a plan; see `batches`."""

    lengths: Sequence[int]
    owners: Sequence[int]
    query_lengths: Mapping[int, int]
    packed: bool

    def fill(self, order: Sequence[int], budget: int) -> list[list[int]]:
        """Rows in this order, a new batch wherever the next row would exceed the budget."""
        batches: list[list[int]] = []
        longest = total = query_tokens = 0
        queries: set[int] = set()
        for row in order:
            query = self.owners[row]
            extra = 0 if query in queries else self.query_lengths.get(query, 0)
            count = len(batches[-1]) + 1 if batches else 1
            cost = total + self.lengths[row] if self.packed else max(longest, self.lengths[row]) * count
            if not batches or cost + query_tokens + extra > budget:
                batches.append([])
                longest = total = query_tokens = 0
                queries = set()
                extra = self.query_lengths.get(query, 0)
            batches[-1].append(row)
            longest = max(longest, self.lengths[row])
            total += self.lengths[row]
            query_tokens += extra
            queries.add(query)
        return batches

    def divide(self, order: Sequence[int], workers: int, share: int) -> list[list[int]]:
        """The rows of a batch as one batch for each worker, of about the same cost."""
        repeated = sum(self.query_lengths.get(query, 0) for query in {self.owners[row] for row in order})
        if repeated * (workers - 1) > _REPEATED * sum(self.lengths[row] for row in order):
            return self.fill(order, max(1, share))
        if not self.packed:  # neighbours in the order are of about the same length
            bounds = [len(order) * part // workers for part in range(workers + 1)]
            parts = [list(order[start:stop]) for start, stop in itertools.pairwise(bounds)]
            return [part for part in parts if part]
        # Each row, the longest first, goes to the worker that has the least.
        parts = [[] for _ in range(workers)]
        least = [(0, part) for part in range(workers)]
        for row in sorted(order, key=lambda row: (-self.lengths[row], row)):
            cost, part = least[0]
            parts[part].append(row)
            heapq.heapreplace(least, (cost + self.lengths[row], part))
        places = {row: place for place, row in enumerate(order)}
        return [sorted(part, key=places.__getitem__) for part in parts if part]
