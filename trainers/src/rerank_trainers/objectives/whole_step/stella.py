"""The recipe of Stella and Jasper: vectors, similarities and their order, all from a teacher's vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from rerank_trainers.objectives.base import Needs, Objective, require_positive
from rerank_trainers.objectives.step import Step
from rerank_trainers.objectives.weighted import weighted_sum
from rerank_trainers.objectives.whole_step.embedding_distillation import EmbeddingDistillation
from rerank_trainers.objectives.whole_step.similarity_distillation import SimilarityDistillation, SimilarityOrder

__all__ = ["Stella"]


@dataclass(frozen=True)
class Stella:
    """``10 * embed_distill + 200 * similarity_distill + 20 * similarity_order``, with options for the weights.

    Zhang et al., *Jasper and Stella: distillation of SOTA embedding models*, 2024; RAG-Retrieval's embedding
    distillation. Under Matryoshka, as there, the first loss reads whole vectors, and the others are averaged over the
    widths.

    Attributes:
        cosine, similarity, order: weights of the three losses.
        margin, pairs, comparisons: options of the third; see `SimilarityOrder`.

    Raises:
        InputError: an invalid value of an option.
    """

    cosine: float = 10.0
    similarity: float = 200.0
    order: float = 20.0
    margin: float = 0.015
    pairs: int = 8192
    comparisons: int = 64

    name: ClassVar[str] = "stella"
    shift_invariant: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for option in ("cosine", "similarity", "order"):
            require_positive(getattr(self, option), f"{option} of stella")
        weighted_sum(self.parts)  # checks the other options

    @property
    def parts(self) -> tuple[tuple[float, Objective], ...]:
        """The three losses with their weights."""
        return (
            (self.cosine, EmbeddingDistillation()),
            (self.similarity, SimilarityDistillation()),
            (self.order, SimilarityOrder(self.margin, self.pairs, self.comparisons)),
        )

    @property
    def needs(self) -> Needs:
        return weighted_sum(self.parts).needs

    def of_step(self, step: Step) -> Tensor:
        """One loss per group, float32 ``[groups]``; see the three objectives."""
        return weighted_sum(self.parts).of_step(step)
