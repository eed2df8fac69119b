"""BGE-M3 (Chen et al., 2024): three scores from one forward pass of an XLM-R, as in FlagEmbedding's ``compute_score``.

``colbert`` is late interaction over ``colbert_linear.pt``; ``dense`` is the cosine of the first tokens' hidden states;
``sparse`` sums, over the words that query and document share, the product of the word's largest weights in each
(``sparse_linear.pt``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from rerank_core import InputError, ModelSpec, Options, QueryRow, Row
from rerank_core.backends.torch import (
    VECTORS,
    Block,
    Embedding,
    Execution,
    LateInteractionScorer,
    RowRef,
    encoder_of,
    linear_of_file,
    locate,
    projection_of,
)
from rerank_core.spec import reading

__all__ = ["M3Scorer", "build"]


def build(spec: ModelSpec, options: Options) -> M3Scorer:
    """The factory of ``bge-m3-colbert``, for a folder with BGE-M3's three files of weights."""
    directory = locate(spec, options)
    module, tokenizer = encoder_of(spec, options, directory)
    assert spec.head is not None
    assert spec.head.vectors is not None
    project = projection_of(module, directory, spec.head.vectors)
    with reading(directory):
        return M3Scorer(
            module, tokenizer, spec, execution=Execution.of(options), project=project, directory=directory,
            options=options.model,
        )  # fmt: skip


class M3Scorer(LateInteractionScorer):
    """Late interaction whose embeddings also have the parts ``dense``, ``words`` (token ids) and their ``weights``."""

    def __init__(self, *args: Any, directory: Path, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        live: Any = self.module
        self._sparse = linear_of_file(directory / "sparse_linear.pt", live.config.hidden_size, 1)
        self._sparse.to(live.device, live.dtype)
        special = self.tokenizer.raw.get_added_tokens_decoder().items()
        self._special = frozenset(number for number, token in special if token.special)

    @torch.inference_mode()
    def embed(
        self, hidden: Sequence[torch.Tensor], rows: Sequence[Sequence[int]], *, is_query: bool
    ) -> list[Embedding]:
        vectors = super().embed(hidden, rows, is_query=is_query)
        dense = torch.nn.functional.normalize(torch.stack([states[0] for states in hidden]).float(), dim=-1)
        return [
            {VECTORS: embedding[VECTORS], "dense": dense[row : row + 1], **self._words(states, ids)}
            for row, (embedding, states, ids) in enumerate(zip(vectors, hidden, rows, strict=True))
        ]

    def _words(self, hidden: torch.Tensor, ids: Sequence[int]) -> dict[str, torch.Tensor]:
        """The row's distinct token ids in ascending order, without special tokens, and the largest weight of each."""
        weights = torch.relu(self._sparse(hidden)).squeeze(-1).float()
        positions = [position for position, token in enumerate(ids) if token not in self._special]
        words, inverse = torch.unique(
            torch.tensor([ids[position] for position in positions], dtype=torch.int64), return_inverse=True
        )
        largest = weights.new_zeros(len(words))
        largest.scatter_reduce_(0, inverse.to(weights.device), weights[positions], "amax")
        return {"words": words.to(weights.device), "weights": largest}

    def compare(self, query: Embedding, block: Block, rows: Sequence[int]) -> dict[str, torch.Tensor]:
        colbert = super().compare(query, block, rows)["score"]
        dense = block.part("dense", rows).all() @ query["dense"][0]
        scores = {"colbert": colbert, "dense": dense, "sparse": _sparse_scores(query, block, rows)}
        weights = {name: self._values[f"{name}_weight"] for name in scores}
        total = sum(weights.values())
        if self._values["score"] == "fused":
            if not total > 0 or min(weights.values()) < 0:
                raise InputError(
                    f"the fused score has the weights {weights!r}; none may be negative, and one must be positive"
                )
            scores["fused"] = sum((scores[name] * weight for name, weight in weights.items()), colbert * 0) / total
        ranking = str(self._values["score"])
        return {ranking: scores[ranking], **scores}

    def wrong_lengths(self, lengths: Mapping[str, torch.Tensor]) -> str | None:
        if bool((lengths["dense"] != 1).any()):
            return "must give each row one dense vector"
        if not torch.equal(lengths["words"], lengths["weights"]):
            return "must give each row as many weights as words"
        return super().wrong_lengths(lengths)

    def explain(self, query: QueryRow, row: Row, embedding: Embedding | RowRef) -> list[tuple[int, int, float]]:
        score = self._values["score"]
        if score == "colbert":
            return super().explain(query, row, embedding)
        if score != "sparse":
            raise InputError(f"score is {score!r}, which is no sum over tokens; explain 'colbert' or 'sparse'")
        (encoded,) = self.encode_queries([query])
        document = embedding.embedding if isinstance(embedding, RowRef) else embedding
        query_weights, weights = (
            dict(zip(part["words"].tolist(), part["weights"].tolist(), strict=True)) for part in (encoded, document)
        )
        return [
            (list(query.ids).index(word), list(row.ids).index(word), weight * weights[word])
            for word, weight in query_weights.items()
            if weight * weights.get(word, 0.0) > 0
        ]


def _sparse_scores(query: Embedding, block: Block, rows: Sequence[int]) -> torch.Tensor:
    """``[rows]``: the sum, over the words that a row shares with the query, of the product of their weights."""
    words, weights = block.part("words", rows), block.part("weights", rows)
    row_words, query_words = words.all(), query["words"]
    scores = query["weights"].new_zeros(len(words.lengths))
    if not len(query_words):
        return scores
    index = torch.searchsorted(query_words, row_words).clamp(max=len(query_words) - 1)
    products = torch.where(query_words[index] == row_words, query["weights"][index] * weights.all(), 0.0)
    owners = torch.repeat_interleave(torch.tensor(words.lengths, device=query_words.device))
    return scores.index_add_(0, owners, products)
