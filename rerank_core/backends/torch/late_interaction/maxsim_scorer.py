"""Late interaction (Khattab & Zaharia, *ColBERT*, SIGIR 2020): query and document meet only as token vectors.

A document's vectors do not depend on the query, so they can be computed once (`Indexable`, `Storable`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from rerank_core.backends.frames import single_frame, token_id
from rerank_core.backends.tokenizer import TextTokenizer
from rerank_core.backends.torch.base import TorchScorer
from rerank_core.backends.torch.execution import Execution
from rerank_core.backends.torch.late_interaction.embeddings import Block, Embedding, RowRef, gather
from rerank_core.backends.torch.late_interaction.maxsim import best_places, maxsim
from rerank_core.backends.torch.late_interaction.store_disk import DiskStore
from rerank_core.backends.torch.late_interaction.store_memory import MemoryStore
from rerank_core.errors import CheckpointError, InputError
from rerank_core.index.protocols import EmbeddingStore
from rerank_core.scorer import Batch, Layout, Output, QueryRow, Row, Tokens
from rerank_core.spec import ModelSpec

__all__ = ["VECTORS", "LateInteractionScorer"]

VECTORS = "vectors"
"""The part of an embedding that holds the token vectors, ``[tokens, width]``."""

# Read when an index is opened: long enough for every layer to show what it does, in both languages.
_PROBE = "Giant pandas eat bamboo, about 12 kg a day. 大熊猫主要吃竹子，每天约十二公斤。"


class LateInteractionScorer(TorchScorer):
    """MaxSim over token vectors, as `TokenVectors` says them to be.

    For each query vector its most similar document vector; then the sum, or the mean over the query's vectors.

    Args:
        project: the layers that the spec's ``projection`` names.
    """

    layout: Layout = "separate"

    def __init__(
        self,
        module: torch.nn.Module,
        tokenizer: TextTokenizer,
        spec: ModelSpec,
        *,
        execution: Execution,
        project: torch.nn.Module | None = None,
    ) -> None:
        template, head = spec.template, spec.head
        if template.wrap != "each" or head is None or head.vectors is None:
            raise InputError(f"model {spec.name!r}: late interaction takes Template.each(), not {template!r}")
        self.vectors = head.vectors
        if (project is None) != (not self.vectors.projection):
            raise CheckpointError(
                f"model {spec.name!r} has the projection {self.vectors.projection!r}, and the scorer was made "
                f"{'without' if project is None else 'with'} one"
            )
        super().__init__(module, tokenizer, spec, execution=execution)
        self.project = project
        self._frame = single_frame(tokenizer, marker=template.doc_marker)
        self._asked = single_frame(
            tokenizer,
            marker=template.query_marker,
            least=self.vectors.expand_to or 0,
            filler=self.vectors.expand_with or "",
            attend=self.vectors.attend_expansion,
        )
        known = tokenizer.raw
        # A word of which the vocabulary makes several tokens is none that could be left out.
        self._skip = frozenset(
            token_id(tokenizer, word) for word in self.vectors.skip if known.token_to_id(word) is not None
        )
        self._mean = head.reduce == "mean"

    def overhead(self, query: Tokens, doc: Tokens) -> int:
        return self._frame.overhead(doc)

    def query_row(self, query: Tokens) -> QueryRow | None:
        return self._asked.query_row(query)

    def row(self, query: Tokens, doc: Tokens, start: int, stop: int, owner: tuple[int, int, int]) -> Row:
        return self._frame.row(doc, start, stop, owner)

    # ------------------------------------------------------------------ vectors
    def read(
        self, rows: Sequence[Sequence[int]], types: Sequence[Sequence[int] | None], *, packed: bool
    ) -> list[torch.Tensor]:
        """Last hidden states ``[len(row), width]``, one tensor a row."""
        return self._hidden(rows, packed=packed)

    @torch.inference_mode()
    def _hidden(
        self, rows: Sequence[Sequence[int]], *, packed: bool, attended: Sequence[int | None] = ()
    ) -> list[torch.Tensor]:
        types = [None] * len(rows)
        hidden = self.outputs(rows, types, packed=packed, attended=attended).last_hidden_state
        lengths = [len(row) for row in rows]
        if packed:
            return list(torch.split(hidden[0], lengths))
        return [hidden[place, :length] for place, length in enumerate(lengths)]

    def vector_positions(self, ids: Sequence[int], *, is_query: bool) -> list[int]:
        """Positions of a row's tokens that have a vector."""
        skip = self._skip if self.vectors.skip_in_queries or not is_query else frozenset()
        first = 1 if self.vectors.skip_first else 0
        return [place for place in range(first, len(ids)) if ids[place] not in skip]

    @torch.inference_mode()
    def embed(
        self, hidden: Sequence[torch.Tensor], rows: Sequence[Sequence[int]], *, is_query: bool
    ) -> list[Embedding]:
        """The embeddings of rows from their last hidden states.

        Args:
            is_query: whether the rows are queries.
        """
        places = [self.vector_positions(ids, is_query=is_query) for ids in rows]
        chosen = [
            states if len(own) == len(ids) else states[own]
            for states, ids, own in zip(hidden, rows, places, strict=True)
        ]
        flat = torch.cat(chosen)
        flat = (flat if self.project is None else self.project(flat)).float()
        if self.vectors.normalize:
            flat = torch.nn.functional.normalize(flat, dim=-1)
        made = list(torch.split(flat, list(map(len, places))))
        # A document all of whose tokens are left out is like nothing: 0 to every query token.
        return [{VECTORS: own if len(own) else flat.new_zeros(1, flat.shape[1])} for own in made]

    def encode_queries(self, queries: Sequence[QueryRow]) -> list[Embedding]:
        """The embeddings of queries."""
        rows = [row.ids for row in queries]
        attended = [row.attended for row in queries]
        # Tokens that look and are not seen need a mask, and a packed row has none.
        packed = self.packed and not any(attended)
        return self.embed(self._states(rows, packed=packed, attended=attended), rows, is_query=True)

    def encode(self, rows: Sequence[Row]) -> list[Embedding]:
        """One embedding per row, on the model's device."""
        ids = [row.ids for row in rows]
        return self.embed(self._states(ids, packed=self.packed), ids, is_query=False)

    def _states(
        self, rows: Sequence[Sequence[int]], *, packed: bool, attended: Sequence[int | None] = ()
    ) -> list[torch.Tensor]:
        """`_hidden`, of rows one by one where padding would change them; nothing of a row of no tokens."""
        if not all(map(len, rows)):
            seen = attended or [None] * len(rows)
            own = [place for place, row in enumerate(rows) if len(row)]
            read = (
                self._states([rows[at] for at in own], packed=packed, attended=[seen[at] for at in own]) if own else []
            )
            states = dict(zip(own, read, strict=True))
            live: Any = self.module
            nothing = torch.empty((0, live.config.hidden_size), device=self.device, dtype=self._dtype)
            return [states.get(place, nothing) for place in range(len(rows))]
        if not self.apart([len(row) for row in rows], packed=packed):
            return self._hidden(rows, packed=packed, attended=attended)
        seen = attended or [None] * len(rows)
        return [self._states([row], packed=packed, attended=[own])[0] for row, own in zip(rows, seen, strict=True)]

    # ------------------------------------------------------------------ scores
    def score(self, batch: Batch) -> Output:
        found = self.encode(batch.rows)
        return self.match(batch.queries, [(row.query, own) for row, own in zip(batch.rows, found, strict=True)])

    @torch.inference_mode()
    def match(self, queries: Mapping[int, QueryRow], items: Sequence[tuple[int, Embedding | RowRef]]) -> Output:
        asked = dict(zip(queries, self.encode_queries(list(queries.values())), strict=True))
        places_of: dict[int, list[int]] = {}
        for place, (query, _) in enumerate(items):
            places_of.setdefault(query, []).append(place)
        scores: dict[str, list[float]] = {}
        for query, places in places_of.items():
            for block, numbers, own in _by_block([items[place][1] for place in places], places):
                for name, values in self.compare(asked[query], block, numbers).items():
                    into = scores.setdefault(name, [0.0] * len(items))
                    for place, value in zip(own, values.tolist(), strict=True):
                        into[place] = value
        return Output(scores or {"score": []})

    def compare(self, query: Embedding, block: Block, numbers: Sequence[int]) -> dict[str, torch.Tensor]:
        """Scores of one query with rows of a block, in their order, by name; the first name ranks."""
        part = block.part(VECTORS, numbers)
        best = maxsim(query[VECTORS], part.read, part.lengths)
        return {"score": best.mean(dim=1) if self._mean else best.sum(dim=1)}

    # ------------------------------------------------------------------ index, explanations
    def wrong_lengths(self, lengths: Mapping[str, torch.Tensor]) -> str | None:
        """What is wrong with the lengths of an index's rows, by part; None where nothing is."""
        return "must give each row a vector" if bool((lengths[VECTORS] < 1).any()) else None

    def store(self, directory: str | None, precision: str | None, identity: Mapping[str, Any]) -> EmbeddingStore:
        if directory is None:
            return MemoryStore(precision or "float32")
        (tokens,) = self.tokenize([_PROBE], "doc")
        room = (self.max_positions or self.spec.max_length) - self.overhead(tokens, tokens)
        (probe,) = self.encode([self.row(tokens, tokens, 0, min(room, len(tokens)), (0, 0, 0))])
        exact = self._dtype == torch.float32 and not self.execution.int8
        return DiskStore.open(
            directory, precision, identity, probe, exact=exact, device=self.device, fit=self.wrong_lengths
        )

    def explain(self, query: QueryRow, row: Row, embedding: Embedding | RowRef) -> list[tuple[int, int, float]]:
        (asked,) = self.encode_queries([query])
        own = embedding.block.embedding(embedding.number) if isinstance(embedding, RowRef) else embedding
        places, values = best_places(asked[VECTORS], own[VECTORS])
        here, there = self.vector_positions(query.ids, is_query=True), self.vector_positions(row.ids, is_query=False)
        if not here or not there:
            return []
        share = 1 / len(here) if self._mean else 1.0
        return [
            (here[number], there[place], value * share)
            for number, (place, value) in enumerate(zip(places, values, strict=True))
        ]

    def token_text(self, token: int) -> str:
        return str(self.tokenizer.raw.id_to_token(token))


def _by_block(
    found: Sequence[Embedding | RowRef], places: Sequence[int]
) -> list[tuple[Block, Sequence[int], Sequence[int]]]:
    """``(block, rows of it in its order, whose they are)``; embeddings that lie in no block are gathered in one."""
    loose = [(own, place) for own, place in zip(found, places, strict=True) if not isinstance(own, RowRef)]
    made: list[tuple[Block, Sequence[int], Sequence[int]]] = []
    if loose:
        block, order = gather([own for own, _ in loose])
        made.append((block, range(len(order)), [loose[number][1] for number in order]))
    shelved: dict[int, list[tuple[int, int]]] = {}
    blocks: dict[int, Block] = {}
    for own, place in zip(found, places, strict=True):
        if isinstance(own, RowRef):
            blocks[id(own.block)] = own.block
            shelved.setdefault(id(own.block), []).append((own.number, place))
    for key, pairs in shelved.items():
        pairs.sort()
        made.append((blocks[key], [number for number, _ in pairs], [place for _, place in pairs]))
    return made
