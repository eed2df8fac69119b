"""The representations of a step from all processes, and the gradient of those that belong to this process.

Each process computes the losses of its own queries against the texts of all processes. The gradient of a text is the
sum of its gradients in all processes, so that a step does not depend on their number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
import torch.distributed as dist
from torch import Tensor

from rerank_trainers.loop.comparison import Counts
from rerank_trainers.objectives.step import Members, Side

__all__ = ["Shared", "Texts", "share"]


@dataclass(frozen=True)
class Texts:
    """The texts of one process, which every process gets.

    Attributes:
        queries, documents: number of vectors of each text.
        owner: number of the query of each document.
        relevant: whether the label of each document is above that of an irrelevant one.
        query_texts, document_texts: equal numbers for equal texts.
        labels, teacher: label and teacher's score of each document; None if any has none.
        query_vectors, document_vectors: a teacher's vectors ``[texts, width]``; None without a teacher.
    """

    queries: Sequence[int] = ()
    documents: Sequence[int] = ()
    owner: Sequence[int] = ()
    relevant: Sequence[bool] = ()
    query_texts: Sequence[int] = ()
    document_texts: Sequence[int] = ()
    labels: Sequence[float] | None = ()
    teacher: Sequence[float] | None = ()
    query_vectors: Tensor | None = None
    document_vectors: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Shared:
    """The representations of a step over all processes.

    Attributes:
        parts: by name, queries first; leaves of a graph.
        counts: the texts that they belong to.
        rank, world: number of this process, and number of processes.
        sizes: for each process the number of vectors of its queries and of its documents.
    """

    parts: Mapping[str, Tensor]
    counts: Counts
    rank: int
    world: int
    sizes: Sequence[tuple[int, int]]

    def own(self, gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The gradient of this process's representations, in their order, summed over the processes."""
        return {name: self._own(gradient) for name, gradient in gradients.items()}

    def _own(self, gradient: Tensor) -> Tensor:
        if self.world > 1:
            gradient = gradient.contiguous()
            dist.all_reduce(gradient)
        queries, documents = self.sizes[self.rank]
        first = sum(size for size, _ in self.sizes[: self.rank])
        second = sum(size for size, _ in self.sizes) + sum(size for _, size in self.sizes[: self.rank])
        return torch.cat([gradient[first : first + queries], gradient[second : second + documents]])


def share(parts: Mapping[str, Tensor], texts: Texts, *, rank: int = 0, world: int = 1) -> Shared:
    """The representations of all processes; every process must call it.

    Args:
        parts: this process's representations by name, queries first.
        world: 1 leaves the other processes out.
    """
    rank = rank if world > 1 else 0
    every = _every(texts, world)
    sizes = [(sum(one.queries), sum(one.documents)) for one in every]
    leaves = {}
    for name, values in parts.items():
        of_each = _gathered(values.detach(), [sum(size) for size in sizes], world)
        queries = [one[: size[0]] for one, size in zip(of_each, sizes, strict=True)]
        documents = [one[size[0] :] for one, size in zip(of_each, sizes, strict=True)]
        leaves[name] = torch.cat([*queries, *documents]).requires_grad_()
    device = next(iter(parts.values())).device
    firsts = [0, *accumulate(len(one.queries) for one in every)]
    document_firsts = [0, *accumulate(len(one.documents) for one in every)]
    owner = torch.tensor(
        [first + at for first, one in zip(firsts, every, strict=False) for at in one.owner],
        dtype=torch.int64,
        device=device,
    )
    own_queries = range(firsts[rank], firsts[rank + 1])
    own_documents = range(document_firsts[rank], document_firsts[rank + 1])
    members = Members(
        owner,
        torch.tensor([value for one in every for value in one.relevant], dtype=torch.bool, device=device),
        torch.tensor([value for one in every for value in one.query_texts], dtype=torch.int64, device=device),
        torch.tensor([value for one in every for value in one.document_texts], dtype=torch.int64, device=device),
        own_queries,
        own_documents,
        _values([one.labels for one in every], device),
        _values([one.teacher for one in every], device),
        _teacher_vectors(every, device),
    )
    counts = Counts(
        [count for one in every for count in one.queries],
        [count for one in every for count in one.documents],
        members,
    )
    return Shared(leaves, counts, rank, world, sizes)


def _values(of_each: Sequence[Sequence[float] | None], device: torch.device) -> Tensor | None:
    """One value per document; None if a process has none."""
    given = [one for one in of_each if one is not None]
    if len(given) < len(of_each):
        return None
    return torch.tensor([value for one in given for value in one], dtype=torch.float32, device=device)


def _teacher_vectors(every: Sequence[Texts], device: torch.device) -> dict[Side, Tensor] | None:
    queries = [one.query_vectors for one in every if one.query_vectors is not None]
    documents = [one.document_vectors for one in every if one.document_vectors is not None]
    if not queries or not documents:
        return None
    return {"query": torch.cat(queries).to(device), "document": torch.cat(documents).to(device)}


def _every(texts: Texts, world: int) -> list[Texts]:
    if world == 1:
        return [texts]
    every: list[Texts] = [texts] * world
    dist.all_gather_object(every, texts)
    return every


def _gathered(values: Tensor, sizes: Sequence[int], world: int) -> list[Tensor]:
    """The tensors of all processes, which differ in their first dimension only."""
    if world == 1:
        return [values]
    padded = values.new_zeros((max(sizes), *values.shape[1:]))
    padded[: len(values)] = values
    every = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(every, padded)
    return [one[:size] for one, size in zip(every, sizes, strict=True)]
