"""Compares the representations of a step: cosines of text vectors, MaxSim of token vectors, or scores as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from torch import Tensor
from torch.nn import functional

from rerank_core import InputError
from rerank_core.backends.torch.late_interaction.maxsim_gradient import maxsim_matrix, maxsim_own
from rerank_trainers.objectives.step import Comparison, Members, Scored, Side

__all__ = ["Counts", "comparison_of"]


@dataclass(frozen=True)
class Counts:
    """The number of vectors of each text of a step, over all processes."""

    queries: Sequence[int]
    documents: Sequence[int]
    members: Members


def comparison_of(parts: Mapping[str, Tensor], counts: Counts | None = None, *, mean: bool = False) -> Comparison:
    """The comparison of a step's representations, queries first.

    Args:
        parts: see `Trainable.parts_from`; where there are several, token vectors are compared.
        counts: None for a model that scores query and document together.
        mean: MaxSim is the mean over the query's tokens, not their sum.
    """
    if counts is None:
        return Scored(parts["layers"] if "layers" in parts else parts["scores"])
    if "vectors" in parts:
        size = sum(counts.queries)
        return _MaxSim(parts["vectors"][:size], parts["vectors"][size:], counts, mean)
    queries = len(counts.queries)
    return _Cosine(parts["pooled"][:queries], parts["pooled"][queries:], counts)


@dataclass(frozen=True, eq=False)
class _Cosine:
    """One vector per text, compared by the product: the cosine where vectors have length 1."""

    queries: Tensor
    documents: Tensor
    counts: Counts

    def own(self) -> Tensor:
        own = self.counts.members.own_documents
        return (self.queries[self.counts.members.owner[own.start : own.stop]] * self.vectors("document")).sum(-1)

    def own_all(self) -> Tensor:
        return (self.queries[self.counts.members.owner] * self.documents).sum(-1)

    def between(self, left: Side, right: Side, rows: Tensor | None = None) -> Tensor:
        mine = self.vectors(left)
        return (mine if rows is None else mine[rows]) @ self.all_vectors(right).T

    def vectors(self, side: Side) -> Tensor:
        own = self.counts.members.own_queries if side == "query" else self.counts.members.own_documents
        return self.all_vectors(side)[own.start : own.stop]

    def all_vectors(self, side: Side) -> Tensor:
        return self.queries if side == "query" else self.documents

    def truncated(self, width: int) -> Comparison:
        return replace(self, queries=_prefix(self.queries, width), documents=_prefix(self.documents, width))


@dataclass(frozen=True, eq=False)
class _MaxSim:
    """Vectors of tokens, laid end to end: ``[tokens, width]`` of each side."""

    queries: Tensor
    documents: Tensor
    counts: Counts
    mean: bool

    def own(self) -> Tensor:
        own = self.counts.members.own_documents
        documents, numbers = self._own("document")
        return self._with_owners(documents, numbers, self.counts.members.owner[own.start : own.stop])

    def own_all(self) -> Tensor:
        return self._with_owners(self.documents, self.counts.documents, self.counts.members.owner)

    def _with_owners(self, documents: Tensor, numbers: Sequence[int], owner: Tensor) -> Tensor:
        return maxsim_own(self.queries, self.counts.queries, documents, numbers, owner.tolist(), mean=self.mean)

    def between(self, left: Side, right: Side, rows: Tensor | None = None) -> Tensor:
        if left == right:
            raise InputError(
                f"MaxSim compares a query with a document, not two of the side {left!r}; leave that direction out"
            )
        mine, numbers = self._own(left, rows)
        if left == "query":
            return maxsim_matrix(mine, numbers, self.documents, self.counts.documents, mean=self.mean)
        return maxsim_matrix(self.queries, self.counts.queries, mine, numbers, mean=self.mean).T

    def vectors(self, side: Side) -> Tensor:
        raise InputError("this objective reads one vector per text, and late interaction has one per token")

    all_vectors = vectors

    def truncated(self, width: int) -> Comparison:
        return replace(self, queries=_prefix(self.queries, width), documents=_prefix(self.documents, width))

    def _own(self, side: Side, rows: Tensor | None = None) -> tuple[Tensor, Sequence[int]]:
        """This process's vectors of one side, or those of some of its texts, and their number for each text."""
        vectors, numbers, own = (
            (self.queries, self.counts.queries, self.counts.members.own_queries)
            if side == "query"
            else (self.documents, self.counts.documents, self.counts.members.own_documents)
        )
        starts = [0, *accumulate(numbers)]
        if rows is None:
            return vectors[starts[own.start] : starts[own.stop]], numbers[own.start : own.stop]
        chosen = [own[row] for row in rows.tolist()]
        pieces = [vectors[starts[text] : starts[text + 1]] for text in chosen]
        return torch.cat(pieces) if pieces else vectors[:0], [numbers[text] for text in chosen]


def _prefix(vectors: Tensor, width: int) -> Tensor:
    if width > vectors.shape[-1]:
        raise InputError(f"a Matryoshka width is {width}, and the vectors have {vectors.shape[-1]} values")
    return functional.normalize(vectors[..., :width], dim=-1)
