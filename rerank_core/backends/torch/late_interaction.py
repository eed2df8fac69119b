"""Late interaction (Khattab & Zaharia, *ColBERT*, SIGIR 2020): query and document meet only as token vectors.

A document's vectors do not depend on the query, so they can be computed once (`Indexable`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from rerank_core.backends.frames import single_frame
from rerank_core.backends.tokens import TextTokenizer
from rerank_core.backends.torch.base import TorchScorer
from rerank_core.errors import InputError
from rerank_core.scorer import Batch, Layout, Output, QueryRow, Row, Tokens
from rerank_core.spec import ModelSpec

__all__ = ["LateInteractionScorer"]


# Documents of one matrix product: enough to keep it busy, few enough that the copy of their vectors stays small.
_TOGETHER = 256


class LateInteractionScorer(TorchScorer):
    """MaxSim over L2-normalised last hidden states of every token, special tokens included.

    For each query token its most similar document token; then the sum, or the mean over the query's tokens.
    """

    layout: Layout = "separate"

    def __init__(
        self, module: torch.nn.Module, tokenizer: TextTokenizer, spec: ModelSpec, *, pack: bool, int8: bool = False
    ) -> None:
        if spec.template.wrap != "each" or spec.head is None:
            raise InputError(f"model {spec.name!r}: late interaction takes Template.each(), not {spec.template!r}")
        super().__init__(module, tokenizer, spec, pack=pack, int8=int8)
        self._frame = single_frame(tokenizer)
        self._mean = spec.head.reduce == "mean"

    def overhead(self, query: Tokens, doc: Tokens) -> int:
        return self._frame.overhead(doc)

    def query_row(self, query: Tokens) -> QueryRow | None:
        return self._frame.query_row(query)

    def row(self, query: Tokens, doc: Tokens, start: int, stop: int, owner: tuple[int, int, int]) -> Row:
        return self._frame.row(doc, start, stop, owner)

    def score(self, batch: Batch) -> Output:
        vectors = self._vectors([row.ids for row in batch.rows])
        return self.match(batch.queries, [(row.query, own) for row, own in zip(batch.rows, vectors, strict=True)])

    def encode(self, rows: Sequence[Row]) -> list[torch.Tensor]:
        """One tensor ``[tokens, width]`` per row, on the model's device."""
        # A copy of its own for each row: a view would keep the whole batch alive in an index.
        return [vectors.clone() for vectors in self._vectors([row.ids for row in rows])]

    @torch.inference_mode()
    def match(self, queries: Mapping[int, QueryRow], items: Sequence[tuple[int, Any]]) -> Output:
        asked = dict(zip(queries, self._vectors([row.ids for row in queries.values()]), strict=True))
        places_of: dict[int, list[int]] = {}
        for place, (query, _) in enumerate(items):
            places_of.setdefault(query, []).append(place)
        scores = [0.0] * len(items)
        for query, places in places_of.items():
            found = _maxsim(asked[query], [items[place][1] for place in places], mean=self._mean)
            for place, score in zip(places, found, strict=True):
                scores[place] = score
        return Output({"score": scores})

    def _vectors(self, rows: Sequence[Sequence[int]]) -> list[torch.Tensor]:
        return self.read(rows, [None] * len(rows), packed=self.packed)

    @torch.inference_mode()
    def read(
        self, rows: Sequence[Sequence[int]], types: Sequence[Sequence[int] | None], *, packed: bool
    ) -> list[torch.Tensor]:
        """L2-normalised token vectors ``[len(row), width]`` in float32, one tensor a row."""
        hidden = self.outputs(rows, types, packed=packed).last_hidden_state.float()
        unit = torch.nn.functional.normalize(hidden, dim=-1)
        lengths = [len(row) for row in rows]
        if packed:
            return list(torch.split(unit[0], lengths))
        return [unit[place, :length] for place, length in enumerate(lengths)]


def _maxsim(query: torch.Tensor, documents: Sequence[torch.Tensor], *, mean: bool) -> list[float]:
    """Scores of one query ``[m, width]`` with documents ``[n_i, width]``.

    Documents are laid end to end, so one matrix product serves many and no padding can win a maximum.
    """
    scores: list[float] = []
    for start in range(0, len(documents), _TOGETHER):
        some = documents[start : start + _TOGETHER]
        parts = torch.split(query @ torch.cat(list(some)).T, [len(vectors) for vectors in some], dim=1)
        best = torch.stack([part.amax(dim=1) for part in parts])
        scores.extend((best.mean(dim=1) if mean else best.sum(dim=1)).tolist())
    return scores
