"""Late interaction (Khattab & Zaharia, *ColBERT*, SIGIR 2020): query and document are encoded separately, and the score
is computed from their token vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from rerank_core.backends.frames import token_id
from rerank_core.backends.tokenizer import TextTokenizer
from rerank_core.backends.torch.execution import Execution
from rerank_core.backends.torch.late_interaction.embeddings import Block, Embedding, RowRef
from rerank_core.backends.torch.late_interaction.maxsim import best_matches, maxsim
from rerank_core.backends.torch.late_interaction.separate_scorer import SeparateScorer
from rerank_core.backends.torch.late_interaction.vectors import (
    POOLED,
    check_finite,
    cosines,
    one_vector_a_row,
    pooled,
    stacked,
    token_vectors,
)
from rerank_core.errors import InputError
from rerank_core.scorer import Batch, QueryRow, Row
from rerank_core.spec import ModelSpec

__all__ = ["VECTORS", "LateInteractionScorer"]

VECTORS = "vectors"
"""Name of the part of an embedding that holds the token vectors, ``[tokens, width]``."""


class LateInteractionScorer(SeparateScorer):
    """MaxSim over token vectors: for each query vector the largest similarity to a document vector, then the sum or the
    mean over the query's vectors. `TokenVectors` says which tokens have a vector and how it is computed.

    A subclass may override `vector_positions`, `embed` and `compare` (and `wrong_lengths`, `explain`) to add parts to
    an embedding or to score otherwise.

    With the head's ``pooling``, an embedding also has the vector of the whole text, and the option ``score`` says
    whether MaxSim, the cosine of these vectors, or the mean of both ranks.

    Args:
        options: the model's own options.
        project: the linear layers that the spec's ``projection`` names, from `projection_of`; by default the module's
            own ``projection``.
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
        if head is None or head.vectors is None:
            raise InputError(f"model {spec.name!r}: late interaction takes Head.maxsim(), not {head!r}")
        self.vectors = head.vectors
        super().__init__(
            module,
            tokenizer,
            spec,
            execution=execution,
            least=self.vectors.expand_to or 0,
            filler=self.vectors.expand_with or "",
            attend=self.vectors.attend_expansion,
            layers=self.vectors.projection,
            project=project,
            options=options,
        )
        # Words that are not one token of the vocabulary are ignored.
        self._skip = frozenset(
            token_id(tokenizer, word) for word in self.vectors.skip if tokenizer.raw.token_to_id(word) is not None
        )
        self._mean = head.reduce == "mean"
        self._pooling = head.pooling

    def vector_positions(self, ids: Sequence[int], *, is_query: bool) -> list[int]:
        """Positions of a row's tokens that have a vector."""
        skip = self._skip if self.vectors.skip_in_queries or not is_query else frozenset()
        first = 1 if self.vectors.skip_first else 0
        return [position for position in range(first, len(ids)) if ids[position] not in skip]

    @torch.inference_mode()
    def embed(
        self, hidden: Sequence[torch.Tensor], rows: Sequence[Sequence[int]], *, is_query: bool
    ) -> list[Embedding]:
        states, lengths = torch.cat(list(hidden)), list(map(len, rows))
        positions = [self.vector_positions(ids, is_query=is_query) for ids in rows]
        vectors, counts = token_vectors(
            states, lengths, positions, project=self.project, normalize=self.vectors.normalize
        )
        embeddings: list[Embedding] = [{VECTORS: part} for part in torch.split(vectors, counts)]
        if self._pooling is None:
            return embeddings
        whole = torch.split(pooled(states, lengths, self._pooling), 1)
        return [{**embedding, POOLED: vector} for embedding, vector in zip(embeddings, whole, strict=True)]

    def parts_from(self, output: Any, batch: Batch) -> dict[str, torch.Tensor]:
        vectors, _ = token_vectors(
            self.encoded_states(output, batch),
            [len(ids) for ids in self.encoded_rows(batch)],
            [*self._query_positions(batch), *self._row_positions(batch)],
            project=self.project,
            normalize=self.vectors.normalize,
        )
        return {VECTORS: vectors}

    def arrays(self, embeddings: Sequence[Embedding]) -> Any:
        """The token vectors of each text; with the option ``score="cosine"`` the vectors of whole texts."""
        if self._pooling is not None and self._values.get("score") == "cosine":
            return stacked(embeddings, POOLED)
        vectors = [embedding[VECTORS].cpu() for embedding in embeddings]
        check_finite([bool(torch.isfinite(own).all()) for own in vectors])
        return [own.numpy() for own in vectors]

    def vector_counts(self, batch: Batch) -> tuple[list[int], list[int]]:
        sides = self._query_positions(batch), self._row_positions(batch)
        queries, rows = ([max(1, len(positions)) for positions in side] for side in sides)
        return queries, rows

    def _query_positions(self, batch: Batch) -> list[list[int]]:
        return [self.vector_positions(query.ids, is_query=True) for query in batch.queries.values()]

    def _row_positions(self, batch: Batch) -> list[list[int]]:
        return [self.vector_positions(row.ids, is_query=False) for row in batch.rows]

    def compare(self, query: Embedding, block: Block, rows: Sequence[int]) -> dict[str, torch.Tensor]:
        ranking = str(self._values.get("score", "maxsim")) if self._pooling is not None else "score"
        if ranking == "cosine":
            return {"cosine": cosines(query, block, rows)}
        part = block.part(VECTORS, rows)
        best = maxsim(query[VECTORS], part.read, part.lengths)
        similarity = best.mean(dim=1) if self._mean else best.sum(dim=1)
        if ranking != "both":
            return {ranking: similarity}
        # A sum over the query's tokens would grow with their number, and the cosine does not: both are averages here.
        average = similarity if self._mean else similarity / len(query[VECTORS])
        cosine = cosines(query, block, rows)
        return {"both": (average + cosine) / 2, "maxsim": similarity, "cosine": cosine}

    def wrong_lengths(self, lengths: Mapping[str, torch.Tensor]) -> str | None:
        if bool((lengths[VECTORS] < 1).any()):
            return "must give each row a vector"
        return None if self._pooling is None else one_vector_a_row(lengths)

    def explain(self, query: QueryRow, row: Row, embedding: Embedding | RowRef) -> list[tuple[int, int, float]]:
        if self._pooling is not None and (score := self._values.get("score", "maxsim")) != "maxsim":
            raise InputError(f"score is {score!r}, which is no sum over tokens; explain score='maxsim'")
        (encoded,) = self.encode_queries([query])
        document = embedding.embedding if isinstance(embedding, RowRef) else embedding
        with self.computing():
            matches, similarities = best_matches(encoded[VECTORS], document[VECTORS])
        query_positions = self.vector_positions(query.ids, is_query=True)
        positions = self.vector_positions(row.ids, is_query=False)
        if not query_positions or not positions:
            return []
        weight = 1 / len(query_positions) if self._mean else 1.0
        return [
            (query_position, positions[match], similarity * weight)
            for query_position, match, similarity in zip(query_positions, matches, similarities, strict=True)
        ]
