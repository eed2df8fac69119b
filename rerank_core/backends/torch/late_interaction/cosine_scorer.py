"""`CosineScorer`: the cosine of the query's and the document's vector, as an embedding model is trained for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from rerank_core.backends.tokenizer import TextTokenizer
from rerank_core.backends.torch.execution import Execution
from rerank_core.backends.torch.late_interaction.embeddings import Block, Embedding
from rerank_core.backends.torch.late_interaction.pooling import POOLED, cosines, one_vector_a_row, pooled
from rerank_core.backends.torch.late_interaction.separate_scorer import SeparateScorer
from rerank_core.errors import InputError
from rerank_core.spec import ModelSpec

__all__ = ["CosineScorer"]


class CosineScorer(SeparateScorer):
    """One vector a text, pooled from its last hidden states; the score is the cosine (`Head.cosine`)."""

    def __init__(
        self, module: torch.nn.Module, tokenizer: TextTokenizer, spec: ModelSpec, *, execution: Execution
    ) -> None:
        if spec.head is None or spec.head.kind != "cosine" or spec.head.pooling is None:
            raise InputError(f"model {spec.name!r}: this scorer takes Head.cosine(), not {spec.head!r}")
        self._pooling = spec.head.pooling
        super().__init__(module, tokenizer, spec, execution=execution)

    @torch.inference_mode()
    def embed(
        self, hidden: Sequence[torch.Tensor], rows: Sequence[Sequence[int]], *, is_query: bool
    ) -> list[Embedding]:
        return [{POOLED: vector} for vector in torch.split(pooled(hidden, self._pooling), 1)]

    def compare(self, query: Embedding, block: Block, rows: Sequence[int]) -> dict[str, torch.Tensor]:
        return {"score": cosines(query, block, rows)}

    def wrong_lengths(self, lengths: Mapping[str, torch.Tensor]) -> str | None:
        return one_vector_a_row(lengths)
