"""Texts of a step that are known to be relevant to each other, and so are never negatives of each other."""

from __future__ import annotations

import torch
from torch import Tensor

from rerank_trainers.objectives.step import Members

__all__ = ["KnownPositives"]


class KnownPositives:
    """Pairs of a query's text and a document's text of which the step holds a relevant example, from any row and any
    process. A pair of texts counts wherever it occurs: a query's other positives, copies of its positives among the
    documents of other queries, and the positives of another row with the same query."""

    def __init__(self, members: Members) -> None:
        self._queries = torch.unique(members.query_texts, return_inverse=True)[1]
        self._documents = torch.unique(members.document_texts, return_inverse=True)[1]
        self._pairs = self._queries[members.owner[members.relevant]], self._documents[members.relevant]

    def documents_of(self, queries: Tensor) -> Tensor:
        """Whether each document of the step is relevant to the queries at these positions, bool
        ``[positions, documents]``."""
        left, right = self._pairs
        return _related(self._queries[queries], left, right, self._documents)

    def queries_of(self, documents: Tensor) -> Tensor:
        """Whether the documents at these positions are relevant to each query of the step, bool
        ``[positions, queries]``."""
        left, right = self._pairs
        return _related(self._documents[documents], right, left, self._queries)


def _related(texts: Tensor, left: Tensor, right: Tensor, others: Tensor) -> Tensor:
    """Whether a pair of ``left`` and ``right`` joins each of ``texts`` with each of ``others``."""
    row, pair = (texts[:, None] == left).nonzero(as_tuple=True)
    related = torch.zeros(len(texts), len(others), dtype=torch.bool, device=texts.device)
    related[row, right[pair]] = True
    return related[:, others]
