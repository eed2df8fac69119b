"""BGE-M3 (Chen et al., 2024): three scores from one pass of an XLM-R, as FlagEmbedding's ``compute_score`` has them.

Late interaction over ``colbert_linear.pt``; the cosine of the first tokens' last hidden states; and for each word that
query and document share, the product of its largest weights in either (``sparse_linear.pt``).
"""

from __future__ import annotations

import copy
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
    """The scorer of a folder with BGE-M3's three files of weights."""
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
    """Late interaction with two more parts of an embedding: ``dense``, and ``words`` with their ``weights``."""

    def __init__(self, *given: Any, directory: Path, options: Mapping[str, Any], **more: Any) -> None:
        super().__init__(*given, **more)
        live: Any = self.module
        self._sparse = linear_of_file(directory / "sparse_linear.pt", live.config.hidden_size, 1)
        self._sparse.to(live.device, live.dtype)
        self._values = dict(options)
        special = self.tokenizer.raw.get_added_tokens_decoder().items()
        self._silent = frozenset(number for number, token in special if token.special)

    def configured(self, options: Mapping[str, Any]) -> M3Scorer:
        other = copy.copy(self)
        other._values = self._values | dict(options)
        return other

    @torch.inference_mode()
    def embed(
        self, hidden: Sequence[torch.Tensor], rows: Sequence[Sequence[int]], *, is_query: bool
    ) -> list[Embedding]:
        vectors = super().embed(hidden, rows, is_query=is_query)
        dense = torch.nn.functional.normalize(torch.stack([states[0] for states in hidden]).float(), dim=-1)
        return [
            {VECTORS: own[VECTORS], "dense": dense[place : place + 1], **self._words(states, ids)}
            for place, (own, states, ids) in enumerate(zip(vectors, hidden, rows, strict=True))
        ]

    def _words(self, hidden: torch.Tensor, ids: Sequence[int]) -> dict[str, torch.Tensor]:
        """The row's words, ascending, and the largest weight of each."""
        weights = torch.relu(self._sparse(hidden)).squeeze(-1).float()
        places = [place for place, number in enumerate(ids) if number not in self._silent]
        words, where = torch.unique(
            torch.tensor([ids[place] for place in places], dtype=torch.int64), return_inverse=True
        )
        most = torch.zeros(len(words), device=weights.device)
        most.scatter_reduce_(0, where.to(weights.device), weights[places], "amax")
        return {"words": words.to(weights.device), "weights": most}

    def compare(self, query: Embedding, block: Block, numbers: Sequence[int]) -> dict[str, torch.Tensor]:
        colbert = super().compare(query, block, numbers)["score"]
        dense = block.part("dense", numbers).all() @ query["dense"][0]
        found = {"colbert": colbert, "dense": dense, "sparse": _shared(query, block, numbers)}
        share = {name: self._values[f"{name}_weight"] for name in found}
        total = sum(share.values())
        if self._values["score"] == "fused":
            if not total > 0 or min(share.values()) < 0:
                raise InputError(f"the fused score has the weights {share!r}; none may be negative, and one is needed")
            found["fused"] = sum((found[name] * weight for name, weight in share.items()), colbert * 0) / total
        ranks = str(self._values["score"])
        return {ranks: found[ranks], **found}

    def wrong_lengths(self, lengths: Mapping[str, torch.Tensor]) -> str | None:
        if bool((lengths["dense"] != 1).any()):
            return "must give each row one dense vector"
        if not torch.equal(lengths["words"], lengths["weights"]):
            return "must give each row as many weights as words"
        return super().wrong_lengths(lengths)

    def explain(self, query: QueryRow, row: Row, embedding: Embedding | RowRef) -> list[tuple[int, int, float]]:
        ranks = self._values["score"]
        if ranks == "colbert":
            return super().explain(query, row, embedding)
        if ranks != "sparse":
            raise InputError(f"score is {ranks!r}, which is no sum over tokens; explain 'colbert' or 'sparse'")
        (asked,) = self.encode_queries([query])
        own = embedding.block.embedding(embedding.number) if isinstance(embedding, RowRef) else embedding
        here, there = (
            dict(zip(part["words"].tolist(), part["weights"].tolist(), strict=True)) for part in (asked, own)
        )
        return [
            (list(query.ids).index(word), list(row.ids).index(word), weight * there[word])
            for word, weight in here.items()
            if weight * there.get(word, 0.0) > 0
        ]


def _shared(query: Embedding, block: Block, numbers: Sequence[int]) -> torch.Tensor:
    """For each row the sum over words that it shares with the query."""
    words, weights = block.part("words", numbers), block.part("weights", numbers)
    found, asked = words.all(), query["words"]
    scores = torch.zeros(len(words.lengths), device=asked.device)
    if not len(asked):
        return scores
    places = torch.searchsorted(asked, found).clamp(max=len(asked) - 1)
    products = torch.where(asked[places] == found, query["weights"][places] * weights.all(), 0.0)
    rows = torch.repeat_interleave(torch.tensor(words.lengths, device=asked.device))
    return scores.index_add_(0, rows, products)
