"""Steps for objectives: padded scores, or vectors that are compared by their cosine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from rerank_core import InputError
from rerank_core.scorer import Batch
from rerank_trainers.model.trained_model import Model
from rerank_trainers.objectives.base import Objective
from rerank_trainers.objectives.step import Members, Scored, Side, Step

__all__ = ["Cosines", "Texts", "losses_and_gradients", "on_groups", "scores_of", "with_leaves"]


def on_groups(
    objective: Objective, scores: Tensor, labels: Tensor | None, teacher: Tensor | None, mask: Tensor
) -> Tensor:
    """The losses ``[groups]`` for padded scores ``[groups, docs]`` (``[groups, docs, layers]``)."""
    groups, docs = scores.shape[:2]
    place = torch.arange(groups * docs).view(groups, docs)
    return objective.of_step(Step(Scored(scores.flatten(0, 1)), place, mask, labels, teacher))


@dataclass(frozen=True, eq=False)
class Cosines:
    """A `Comparison` of vectors by their cosine.

    Attributes:
        vectors_of: vectors of length 1 of all processes, ``[all, width]`` by side.
        owner: ``[documents]``, the query of each document.
        own: ranges of this process's queries and documents.
    """

    vectors_of: dict[Side, Tensor]
    owner: Tensor
    own_of: dict[Side, range]

    def own(self) -> Tensor:
        return self.own_all()[list(self.own_of["document"])]

    def own_all(self) -> Tensor:
        return (self.all_vectors("query")[self.owner] * self.all_vectors("document")).sum(-1)

    def between(self, left: Side, right: Side, rows: Tensor | None = None) -> Tensor:
        mine = self.vectors(left)
        return (mine if rows is None else mine[rows]) @ self.all_vectors(right).T

    def vectors(self, side: Side) -> Tensor:
        return self.all_vectors(side)[list(self.own_of[side])]

    def all_vectors(self, side: Side) -> Tensor:
        return self.vectors_of[side]

    def truncated(self, width: int) -> Cosines:
        if width > self.vectors_of["query"].shape[-1]:
            raise InputError(f"a width is {width}, and the vectors have {self.vectors_of['query'].shape[-1]} values")
        cut: dict[Side, Tensor] = {
            side: functional.normalize(values[:, :width], dim=-1) for side, values in self.vectors_of.items()
        }
        return replace(self, vectors_of=cut)


@dataclass(frozen=True, eq=False)
class Texts:
    """The queries and documents of a step, over all processes.

    Attributes:
        queries, documents: vectors, ``[all, width]``.
        sizes: documents of each query, in order.
        labels, teacher: ``[documents]``.
        query_texts, document_texts: equal for equal texts; all different by default.
        teacher_vectors: ``[all, width]`` by side.
    """

    queries: Tensor
    documents: Tensor
    sizes: Sequence[int]
    labels: Tensor | None = None
    teacher: Tensor | None = None
    query_texts: Tensor | None = None
    document_texts: Tensor | None = None
    teacher_vectors: dict[Side, Tensor] | None = None

    def step(self, own: range | None = None, temperature: float = 1.0) -> Step:
        """The step as the process with these queries sees it; by default one process has all."""
        own = range(len(self.sizes)) if own is None else own
        starts = [0, *accumulate(self.sizes)]
        own_documents = range(starts[own.start], starts[own.stop])
        sizes = [self.sizes[query] for query in own]
        mask = torch.arange(max(sizes, default=0)) < torch.tensor(sizes, dtype=torch.long)[:, None]
        place = torch.zeros(mask.shape, dtype=torch.long)
        place[mask] = torch.arange(len(own_documents))

        def padded(values: Tensor | None) -> Tensor | None:
            if values is None:
                return None
            laid = torch.full(mask.shape, math.nan)
            laid[mask] = values[own_documents.start : own_documents.stop].float()
            return laid

        owner = torch.repeat_interleave(torch.arange(len(self.sizes)), torch.tensor(self.sizes))
        members = Members(
            owner,
            torch.zeros(len(owner), dtype=torch.bool) if self.labels is None else self.labels > 0,
            torch.arange(len(self.sizes)) if self.query_texts is None else self.query_texts,
            torch.arange(len(owner)) if self.document_texts is None else self.document_texts,
            own,
            own_documents,
            self.labels,
            self.teacher,
            self.teacher_vectors,
        )
        ranges: dict[Side, range] = {"query": own, "document": own_documents}
        vectors: dict[Side, Tensor] = {
            "query": functional.normalize(self.queries, dim=-1),
            "document": functional.normalize(self.documents, dim=-1),
        }
        compared = Cosines(vectors, owner, ranges)
        return Step(compared, place, mask, padded(self.labels), padded(self.teacher), members, temperature)


def scores_of(model: Model, module: Any, batch: Batch) -> Tensor:
    """Scores ``[rows]``, or ``[rows, layers]``, of a model that scores query and document together."""
    (scores,) = model.represent(module, batch).values()
    return scores


def with_leaves(texts: Texts) -> tuple[Texts, list[Tensor]]:
    """The same texts with vectors that take gradients."""
    leaves = [values.clone().requires_grad_() for values in (texts.queries, texts.documents)]
    return replace(texts, queries=leaves[0], documents=leaves[1]), leaves


def losses_and_gradients(objective: Objective, texts: Texts, parts: list[range], temperature: float) -> list[Tensor]:
    """Losses of all queries, each from the process that has it, and the gradients of their sum."""
    texts, leaves = with_leaves(texts)
    losses = torch.cat([objective.of_step(texts.step(own, temperature)) for own in parts])
    return [losses.detach(), *torch.autograd.grad(losses.sum(), leaves)]
