"""`CosineScorer`: the cosine of the query's and the document's vector, as an embedding model is trained for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from rerank_core.backends.tokenizer import TextTokenizer
from rerank_core.backends.torch.execution import Execution
from rerank_core.backends.torch.late_interaction.embeddings import Block, Embedding
from rerank_core.backends.torch.late_interaction.separate_scorer import SeparateScorer
from rerank_core.backends.torch.late_interaction.vectors import POOLED, cosines, one_vector_a_row, pooled
from rerank_core.errors import InputError
from rerank_core.scorer import Batch
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
        vectors = pooled(torch.cat(list(hidden)), list(map(len, rows)), self._pooling)
        return [{POOLED: vector} for vector in torch.split(vectors, 1)]

    def parts_from(self, output: Any, batch: Batch) -> dict[str, torch.Tensor]:
        lengths = [len(ids) for ids in self.encoded_rows(batch)]
        return {"pooled": pooled(self.encoded_states(output, batch), lengths, self._pooling)}

    def vector_counts(self, batch: Batch) -> tuple[list[int], list[int]]:
        return [1] * len(batch.queries), [1] * len(batch.rows)

    def compare(self, query: Embedding, block: Block, rows: Sequence[int]) -> dict[str, torch.Tensor]:
        return {"score": cosines(query, block, rows)}

    def wrong_lengths(self, lengths: Mapping[str, torch.Tensor]) -> str | None:
        return one_vector_a_row(lengths)
