"""`CosineScorer`: the cosine of the query's and the document's vector, as an embedding model is trained for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from rerank_core.backends.tokenizer import TextTokenizer
from rerank_core.backends.torch.execution import Execution
from rerank_core.backends.torch.late_interaction.embeddings import Block, Embedding
from rerank_core.backends.torch.late_interaction.separate_scorer import SeparateScorer
from rerank_core.backends.torch.late_interaction.vectors import POOLED, cosines, one_vector_a_row, pooled, stacked
from rerank_core.errors import InputError
from rerank_core.scorer import Batch
from rerank_core.spec import ModelSpec

__all__ = ["CosineScorer"]


class CosineScorer(SeparateScorer):
    """One vector a text, pooled from its last hidden states; the score is the cosine (`Head.cosine`).

    Args:
        options: values of the model's options; ``truncate_dim`` shortens the vectors.
        project: the layers that the head's ``modules`` name.

    Attributes:
        width: number of values of a vector, after ``truncate_dim``.

    Raises:
        InputError: another head, or a ``truncate_dim`` above the width of the vectors.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        tokenizer: TextTokenizer,
        spec: ModelSpec,
        *,
        execution: Execution,
        options: Mapping[str, Any] | None = None,
        project: torch.nn.Module | None = None,
    ) -> None:
        head = spec.head
        if head is None or head.kind != "cosine" or head.pooling is None:
            raise InputError(f"model {spec.name!r}: this scorer takes Head.cosine(), not {head!r}")
        self._pooling = head.pooling
        self._normalize = bool(head.normalize)
        super().__init__(
            module, tokenizer, spec, execution=execution, layers=head.modules, project=project, options=options
        )
        live: Any = module
        probe = torch.zeros(1, live.config.hidden_size, device=self.device, dtype=self._dtype)
        with torch.inference_mode():
            self.width = int(self._pooled(probe, [1]).shape[1])
        self._kept: int | None = self._values.get("truncate_dim")
        if self._kept is not None:
            if not 1 <= self._kept <= self.width:
                raise InputError(
                    f"truncate_dim is {self._kept!r}, and the vectors of {spec.name!r} have {self.width} values; it "
                    f"must be 1 to {self.width}"
                )
            self.width = self._kept

    def _pooled(self, states: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
        """See `pooled`."""
        return pooled(states, lengths, self._pooling, project=self.project, normalize=self._normalize)

    @torch.inference_mode()
    def embed(
        self, hidden: Sequence[torch.Tensor], rows: Sequence[Sequence[int]], *, is_query: bool
    ) -> list[Embedding]:
        vectors = self._pooled(torch.cat(list(hidden)), list(map(len, rows)))
        if self._kept is not None:
            vectors = vectors[:, : self._kept]
            vectors = torch.nn.functional.normalize(vectors, dim=-1) if self._normalize else vectors.contiguous()
        return [{POOLED: vector} for vector in torch.split(vectors, 1)]

    def parts_from(self, output: Any, batch: Batch) -> dict[str, torch.Tensor]:
        """Vectors of the full width, whatever ``truncate_dim`` is: a trainer shortens them itself."""
        return {"pooled": self._pooled(self.encoded_states(output, batch), list(map(len, self.encoded_rows(batch))))}

    def arrays(self, embeddings: Sequence[Embedding]) -> Any:
        return (
            stacked(embeddings, POOLED)
            if embeddings
            else torch.zeros(0, self.width, dtype=torch.float32, device="cpu").numpy()
        )

    def vector_counts(self, batch: Batch) -> tuple[list[int], list[int]]:
        return [1] * len(batch.queries), [1] * len(batch.rows)

    def compare(self, query: Embedding, block: Block, rows: Sequence[int]) -> dict[str, torch.Tensor]:
        return {"score": cosines(query, block, rows)}

    def wrong_lengths(self, lengths: Mapping[str, torch.Tensor]) -> str | None:
        return one_vector_a_row(lengths)
