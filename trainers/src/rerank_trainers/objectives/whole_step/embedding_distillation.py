"""Distillation of vectors: the vector of each text must be the teacher's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from rerank_core.errors import InputError, one_of
from rerank_trainers.objectives.base import Needs
from rerank_trainers.objectives.step import Members, Side, Step

__all__ = ["EmbeddingDistillation", "group_mean", "vectors_of_teacher"]


@dataclass(frozen=True)
class EmbeddingDistillation:
    """Distance of the model's vector from the teacher's, mean over the texts of a group (the query and its documents).

    Kim et al., *EmbedDistill: A Geometric Knowledge Distillation for Information Retrieval*, 2023; EmbedDistillLoss of
    sentence-transformers. The model's vectors must be as wide as the teacher's: a linear layer after
    the encoder (``model.width``) makes them so. Under Matryoshka it reads whole vectors only.

    Attributes:
        distance: ``"cosine"`` (1 - cosine), ``"mse"`` (mean of the squared differences over the values of a vector), or
            ``"l2"`` (Euclidean).

    Raises:
        InputError: an unknown distance.
    """

    distance: Literal["cosine", "mse", "l2"] = "cosine"

    name: ClassVar[str] = "embed_distill"
    shift_invariant: ClassVar[bool] = True

    def __post_init__(self) -> None:
        one_of(self.distance, ("cosine", "mse", "l2"), "distance of embed_distill")

    @property
    def needs(self) -> Needs:
        return Needs(vectors=True, teacher_vectors=True, teacher_width=True)

    def of_step(self, step: Step) -> Tensor:
        """One loss per group, float32 ``[groups]``.

        Raises:
            InputError: no vectors of a teacher, or vectors of another width.
        """
        members = step.all_members()
        own: dict[Side, range] = {"query": members.own_queries, "document": members.own_documents}
        with torch.autocast(step.mask.device.type, enabled=False):
            distances: dict[Side, Tensor] = {}
            for side, vectors in vectors_of_teacher(members).items():
                mine, teacher = step.vectors(side).float(), vectors[own[side].start : own[side].stop]
                if mine.shape[-1] != teacher.shape[-1]:
                    raise InputError(
                        f"the model's vectors have {mine.shape[-1]} values and the teacher's {teacher.shape[-1]}; "
                        f"{self.name} needs equal widths: give the model a projection of this width, or use "
                        "similarity_distill, which compares similarities"
                    )
                distances[side] = self._distances(mine, teacher.detach().float())
            return group_mean(step, distances)

    def _distances(self, mine: Tensor, teacher: Tensor) -> Tensor:
        if self.distance == "cosine":
            return 1 - functional.cosine_similarity(mine, teacher, dim=-1)
        if self.distance == "mse":
            return (mine - teacher).square().mean(-1)
        distances: Tensor = torch.linalg.vector_norm(mine - teacher, dim=-1)
        return distances


def vectors_of_teacher(members: Members) -> Mapping[Side, Tensor]:
    """The teacher's vectors of all queries and documents, by side.

    Raises:
        InputError: there are none.
    """
    if not members.teacher_vectors:
        raise InputError(
            "this objective reads a teacher's vectors, and the batch has none; every training row must have them"
        )
    return members.teacher_vectors


def group_mean(step: Step, values: dict[Side, Tensor]) -> Tensor:
    """The mean over the texts of each group, ``[groups]``, of values of this process's queries and documents; of one
    side alone if only that is given."""
    total = torch.zeros(len(step.mask), device=step.mask.device)
    count = torch.zeros_like(total)
    if "query" in values:
        total, count = total + values["query"], count + 1
    if "document" in values:
        documents = values["document"][step.place].masked_fill(~step.mask, 0)
        total, count = total + documents.sum(-1), count + step.mask.sum(-1)
    return total / count.clamp(min=1)
