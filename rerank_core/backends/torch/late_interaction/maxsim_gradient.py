"""MaxSim of many queries and documents with a gradient, over vectors laid end to end, for training.

Similarities are computed in blocks and not kept: the backward pass needs only the position of each maximum. There is no
padding that could be a maximum.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from rerank_core.errors import InputError

__all__ = ["maxsim_matrix", "maxsim_own"]

# Similarities of one block, and query vectors of one block.
_BLOCK = {"cpu": 1 << 21, "cuda": 1 << 26}
_QUERY_VECTORS = 2048


def maxsim_matrix(
    queries: torch.Tensor,
    query_counts: Sequence[int],
    documents: torch.Tensor,
    document_counts: Sequence[int],
    *,
    mean: bool,
) -> torch.Tensor:
    """MaxSim of every query with every document, ``[queries, documents]``.

    Memory: for the backward pass 4 bytes a query vector and document; similarities of one block in passing.

    Args:
        queries: ``[m, width]`` float32, the vectors of all queries end to end.
        query_counts: number of vectors of each query, at least 1.
        documents: ``[n, width]`` float32.
        document_counts: number of vectors of each document, at least 1.
        mean: average the maxima over the query's vectors instead of adding them.

    Raises:
        InputError: counts that are below 1 or do not add up to the number of vectors.
    """
    left, right = _Side.of("query", queries, query_counts), _Side.of("document", documents, document_counts)
    every = range(len(right.counts))
    room = _BLOCK.get(documents.device.type, _BLOCK["cpu"])
    blocks = [block for chosen in _query_ranges(left) for block in _blocks(left, chosen, right, every, room)]
    flat: torch.Tensor = _MaxSim.apply(queries, documents, _Plan(blocks, left.counts, mean))  # type: ignore[no-untyped-call]
    order = torch.cat([block.places(len(every)) for block in blocks]) if blocks else torch.empty(0, dtype=torch.int64)
    return _in_order(flat, order).view(len(left.counts), len(every))


def maxsim_own(
    queries: torch.Tensor,
    query_counts: Sequence[int],
    documents: torch.Tensor,
    document_counts: Sequence[int],
    owner: Sequence[int],
    *,
    mean: bool,
) -> torch.Tensor:
    """MaxSim of each document with its own query, ``[documents]``.

    Args:
        queries, query_counts, documents, document_counts, mean: see `maxsim_matrix`.
        owner: for each document the number of its query.

    Raises:
        InputError: as `maxsim_matrix`, or an owner that is no query.
    """
    left, right = _Side.of("query", queries, query_counts), _Side.of("document", documents, document_counts)
    owned: dict[int, list[int]] = {}
    for document, query in enumerate(owner):
        owned.setdefault(query, []).append(document)
    if len(owner) != len(right.counts) or not owned.keys() <= set(range(len(left.counts))):
        raise InputError(
            f"{len(right.counts)} documents have {len(owner)} owners, among {len(left.counts)} queries; each document "
            "needs the number of its query"
        )
    room = _BLOCK.get(documents.device.type, _BLOCK["cpu"])
    blocks = [
        block
        for query, members in owned.items()
        for block in _blocks(left, range(query, query + 1), right, members, room)
    ]
    flat: torch.Tensor = _MaxSim.apply(queries, documents, _Plan(blocks, left.counts, mean))  # type: ignore[no-untyped-call]
    order = [document for block in blocks for document in block.documents]
    return _in_order(flat, torch.tensor(order, dtype=torch.int64))


@dataclass(frozen=True)
class _Side:
    """The number of vectors of each text of one side, and the first vector of each."""

    counts: tuple[int, ...]
    starts: tuple[int, ...]

    @classmethod
    def of(cls, name: str, vectors: torch.Tensor, counts: Sequence[int]) -> _Side:
        if min(counts, default=1) < 1 or sum(counts) != len(vectors):
            raise InputError(
                f"{len(vectors)} {name} vectors have the counts {list(counts)[:20]!r}; each count must be at least 1, "
                "and they must add up to the number of vectors"
            )
        return cls(tuple(counts), (0, *itertools.accumulate(counts)))


@dataclass(frozen=True)
class _Block:
    """Queries and documents whose similarities are computed at once.

    Attributes:
        queries: numbers of the queries.
        vectors: first and last + 1 vector of these queries.
        documents: numbers of the documents, of ascending length.
        runs: ``(documents, length)`` of neighbours of equal length.
        starts: first vector of each document.
    """

    queries: range
    vectors: tuple[int, int]
    documents: tuple[int, ...]
    runs: tuple[tuple[int, int], ...]
    starts: tuple[int, ...]

    def places(self, columns: int) -> torch.Tensor:
        """The place of each score of the block, documents by queries, in a matrix of so many documents."""
        rows = torch.arange(self.queries.start, self.queries.stop)
        return (rows[None, :] * columns + torch.tensor(self.documents)[:, None]).flatten()

    def index(self, device: torch.device) -> torch.Tensor:
        """Positions of the documents' vectors, in the order of the block."""
        lengths = torch.tensor([length for count, length in self.runs for _ in range(count)])
        starts = torch.tensor(self.starts) - (lengths.cumsum(0) - lengths)
        index = torch.repeat_interleave(starts, lengths) + torch.arange(int(lengths.sum()))
        return index.to(device)


@dataclass(frozen=True)
class _Plan:
    """The blocks of a call, and the number of vectors of each query."""

    blocks: Sequence[_Block]
    counts: tuple[int, ...]
    mean: bool

    def per_query(self, block: _Block, device: torch.device) -> torch.Tensor:
        """``[queries of the block]``: their numbers of vectors."""
        return torch.tensor(self.counts[block.queries.start : block.queries.stop], device=device)


class _MaxSim(torch.autograd.Function):
    """Scores of all blocks end to end; in each block documents by queries."""

    @staticmethod
    def forward(ctx: Any, queries: torch.Tensor, documents: torch.Tensor, plan: _Plan) -> torch.Tensor:
        scores, positions = [], []
        with torch.autocast(queries.device.type, enabled=False):
            for block in plan.blocks:
                vectors = documents[block.index(documents.device)]
                best, where = _maxima(vectors @ queries[slice(*block.vectors)].T, block.runs)
                counts = plan.per_query(block, best.device)
                if len(counts) == 1:
                    total = best.sum(dim=1, keepdim=True)
                else:
                    total = torch.segment_reduce(best.T.contiguous(), "sum", lengths=counts, axis=0, unsafe=True).T
                scores.append((total / counts if plan.mean else total).flatten())
                positions.append(where)
        ctx.plan = plan
        ctx.save_for_backward(queries, documents, *positions)
        return torch.cat(scores) if scores else queries.new_zeros(0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None]:
        queries, documents, *positions = ctx.saved_tensors
        of_queries = torch.zeros_like(queries) if ctx.needs_input_grad[0] else None
        of_documents = torch.zeros_like(documents) if ctx.needs_input_grad[1] else None
        start = 0
        for block, where in zip(ctx.plan.blocks, positions, strict=True):
            size = len(block.documents) * len(block.queries)
            weights = gradient[start : start + size].reshape(len(block.documents), len(block.queries))
            start += size
            counts = ctx.plan.per_query(block, weights.device)
            if ctx.plan.mean:
                weights = weights / counts
            weights = torch.repeat_interleave(weights, counts, dim=1)
            index, rows = block.index(documents.device), slice(*block.vectors)
            if of_queries is not None:
                # Of each query vector: the document vectors that it chose, weighted and added.
                of_queries[rows] += _weighted_sums(documents[index], where.T.contiguous(), weights.T.contiguous())
            if of_documents is not None:
                # Each document vector is in the block once.
                of_documents[index] += _weighted_sums_by_row(queries[rows], where, weights, len(index))
        return of_queries, of_documents, None


def _maxima(similarities: torch.Tensor, runs: Sequence[tuple[int, int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """For each document and query vector the largest similarity, and its row in the block as int32.

    Args:
        similarities: ``[document vectors, query vectors]``.
        runs: see `_Block`.
    """
    count = sum(number for number, _ in runs)
    best = similarities.new_empty((count, similarities.shape[1]))
    where = torch.empty(best.shape, dtype=torch.int32, device=best.device)
    first = offset = 0
    for number, length in runs:
        values, positions = similarities[offset : offset + number * length].view(number, length, -1).max(dim=1)
        begin = torch.arange(offset, offset + number * length, length, device=best.device)
        best[first : first + number] = values
        where[first : first + number] = positions + begin[:, None]
        first += number
        offset += number * length
    return best, where


def _weighted_sums(table: torch.Tensor, positions: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """``[rows, width]``: for each row of ``positions`` the sum of these vectors of the table, weighted. No copy of the
    vectors is made."""
    return torch.nn.functional.embedding_bag(positions, table, per_sample_weights=weights, mode="sum")


def _weighted_sums_by_row(
    table: torch.Tensor, positions: torch.Tensor, weights: torch.Tensor, rows: int
) -> torch.Tensor:
    """``[rows, width]``: row ``r`` is the sum, over the entries of ``positions`` ``[documents, columns]`` that equal
    ``r``, of the table's vector of their column, weighted. In a fixed order, so that it is reproducible."""
    flat = positions.flatten()
    order = torch.argsort(flat, stable=True)
    ends = torch.bincount(flat, minlength=rows).cumsum(0)
    offsets = torch.cat([ends.new_zeros(1), ends[:-1]])
    return torch.nn.functional.embedding_bag(
        order % positions.shape[1], table, offsets, per_sample_weights=weights.flatten()[order], mode="sum"
    )


def _in_order(flat: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """The scores by place: ``flat[i]`` goes to ``order[i]``."""
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order))
    return flat[back.to(flat.device)]


def _query_ranges(queries: _Side) -> Iterator[range]:
    """Ranges of queries with at most `_QUERY_VECTORS` vectors, or one query."""
    start = 0
    for query in range(len(queries.counts)):
        if query > start and queries.starts[query + 1] - queries.starts[start] > _QUERY_VECTORS:
            yield range(start, query)
            start = query
    if start < len(queries.counts):
        yield range(start, len(queries.counts))


def _blocks(queries: _Side, chosen: range, documents: _Side, members: Sequence[int], room: int) -> Iterator[_Block]:
    """These queries with these documents, in blocks of at most ``room`` similarities, or one document."""
    vectors = (queries.starts[chosen.start], queries.starts[chosen.stop])
    limit = room // (vectors[1] - vectors[0])
    ordered = sorted(members, key=documents.counts.__getitem__)
    begin = size = 0
    for place in range(len(ordered) + 1):
        length = documents.counts[ordered[place]] if place < len(ordered) else 0
        if place > begin and (place == len(ordered) or size + length > limit):
            block = tuple(ordered[begin:place])
            lengths = itertools.groupby(documents.counts[one] for one in block)
            runs = tuple((sum(1 for _ in group), number) for number, group in lengths)
            yield _Block(chosen, vectors, block, runs, tuple(documents.starts[one] for one in block))
            begin, size = place, 0
        size += length
