"""Late interaction (Khattab & Zaharia, *ColBERT*, SIGIR 2020): query and document are encoded separately, and the score
is computed from their token vectors.

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
from rerank_core.backends.torch.late_interaction.maxsim import best_matches, maxsim
from rerank_core.backends.torch.late_interaction.store_disk import DiskStore
from rerank_core.backends.torch.late_interaction.store_memory import MemoryStore
from rerank_core.errors import CheckpointError, InputError
from rerank_core.index.protocols import EmbeddingStore
from rerank_core.scorer import Batch, Layout, Output, QueryRow, Row, Tokens
from rerank_core.spec import ModelSpec

__all__ = ["VECTORS", "LateInteractionScorer"]

VECTORS = "vectors"
"""Name of the part of an embedding that holds the token vectors, ``[tokens, width]``."""

# Encoded when an index is opened, to recognise the model: long enough to differ for other weights, in two languages.
_PROBE = "Giant pandas eat bamboo, about 12 kg a day. 大熊猫主要吃竹子，每天约十二公斤。"


class LateInteractionScorer(TorchScorer):
    """MaxSim over token vectors: for each query vector the largest similarity to a document vector, then the sum or the
    mean over the query's vectors. `TokenVectors` says which tokens have a vector and how it is computed.

    A subclass may override `vector_positions`, `embed` and `compare` (and `wrong_lengths`, `explain`) to add parts to
    an embedding or to score otherwise.

    Args:
        project: the linear layers that the spec's ``projection`` names, from `projection_of`.
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
        self._query_frame = single_frame(
            tokenizer,
            marker=template.query_marker,
            least=self.vectors.expand_to or 0,
            filler=self.vectors.expand_with or "",
            attend=self.vectors.attend_expansion,
        )
        # Words that are not one token of the vocabulary are ignored.
        self._skip = frozenset(
            token_id(tokenizer, word) for word in self.vectors.skip if tokenizer.raw.token_to_id(word) is not None
        )
        self._mean = head.reduce == "mean"

    def overhead(self, query: Tokens, doc: Tokens) -> int:
        return self._frame.overhead(doc)

    def query_row(self, query: Tokens) -> QueryRow | None:
        return self._query_frame.query_row(query)

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
        return [hidden[row, :length] for row, length in enumerate(lengths)]

    def vector_positions(self, ids: Sequence[int], *, is_query: bool) -> list[int]:
        """Positions of a row's tokens that have a vector."""
        skip = self._skip if self.vectors.skip_in_queries or not is_query else frozenset()
        first = 1 if self.vectors.skip_first else 0
        return [position for position in range(first, len(ids)) if ids[position] not in skip]

    @torch.inference_mode()
    def embed(
        self, hidden: Sequence[torch.Tensor], rows: Sequence[Sequence[int]], *, is_query: bool
    ) -> list[Embedding]:
        """The embeddings of rows from their last hidden states.

        Args:
            hidden: ``[len(row), width]`` for each row.
            rows: the token ids of each row.
            is_query: whether the rows are queries.
        """
        positions = [self.vector_positions(ids, is_query=is_query) for ids in rows]
        chosen = [
            states if len(row_positions) == len(ids) else states[row_positions]
            for states, ids, row_positions in zip(hidden, rows, positions, strict=True)
        ]
        flat = torch.cat(chosen)
        flat = (flat if self.project is None else self.project(flat)).float()
        if self.vectors.normalize:
            flat = torch.nn.functional.normalize(flat, dim=-1)
        vectors = torch.split(flat, list(map(len, positions)))
        # A document without a vector gets a zero vector, whose similarity to every query vector is 0.
        return [{VECTORS: part if len(part) else flat.new_zeros(1, flat.shape[1])} for part in vectors]

    def encode_queries(self, queries: Sequence[QueryRow]) -> list[Embedding]:
        """The embeddings of queries."""
        rows = [row.ids for row in queries]
        attended = [row.attended for row in queries]
        # Expansion tokens attend but are not attended to, which needs a mask; packed rows have none.
        packed = self.packed and not any(attended)
        return self.embed(self._states(rows, packed=packed, attended=attended), rows, is_query=True)

    def encode(self, rows: Sequence[Row]) -> list[Embedding]:
        """One embedding per row, on the model's device."""
        ids = [row.ids for row in rows]
        return self.embed(self._states(ids, packed=self.packed), ids, is_query=False)

    def _states(
        self, rows: Sequence[Sequence[int]], *, packed: bool, attended: Sequence[int | None] = ()
    ) -> list[torch.Tensor]:
        """`_hidden`; row by row where padding would change the result, and ``[0, width]`` for a row without tokens."""
        limits = attended or [None] * len(rows)
        if not all(map(len, rows)):
            full = [number for number, row in enumerate(rows) if len(row)]
            hidden = (
                self._states([rows[n] for n in full], packed=packed, attended=[limits[n] for n in full]) if full else []
            )
            states = dict(zip(full, hidden, strict=True))
            module: Any = self.module
            empty = torch.empty((0, module.config.hidden_size), device=self.device, dtype=self._dtype)
            return [states.get(number, empty) for number in range(len(rows))]
        if not self.must_split([len(row) for row in rows], packed=packed):
            return self._hidden(rows, packed=packed, attended=attended)
        return [
            self._states([row], packed=packed, attended=[limit])[0] for row, limit in zip(rows, limits, strict=True)
        ]

    # ------------------------------------------------------------------ scores
    def score(self, batch: Batch) -> Output:
        embeddings = self.encode(batch.rows)
        return self.match(batch.queries, [(row.query, part) for row, part in zip(batch.rows, embeddings, strict=True)])

    @torch.inference_mode()
    def match(self, queries: Mapping[int, QueryRow], items: Sequence[tuple[int, Embedding | RowRef]]) -> Output:
        encoded = dict(zip(queries, self.encode_queries(list(queries.values())), strict=True))
        items_of: dict[int, list[int]] = {}
        for item, (query, _) in enumerate(items):
            items_of.setdefault(query, []).append(item)
        scores: dict[str, list[float]] = {}
        for query, numbers in items_of.items():
            for block, rows, owners in _by_block([items[item][1] for item in numbers], numbers):
                for name, values in self.compare(encoded[query], block, rows).items():
                    column = scores.setdefault(name, [0.0] * len(items))
                    for item, value in zip(owners, values.tolist(), strict=True):
                        column[item] = value
        return Output(scores or {"score": []})

    def compare(self, query: Embedding, block: Block, rows: Sequence[int]) -> dict[str, torch.Tensor]:
        """Scores ``[rows]`` of one query with some rows of a block, by name; the first name ranks."""
        part = block.part(VECTORS, rows)
        best = maxsim(query[VECTORS], part.read, part.lengths)
        return {"score": best.mean(dim=1) if self._mean else best.sum(dim=1)}

    # ------------------------------------------------------------------ index, explanations
    def wrong_lengths(self, lengths: Mapping[str, torch.Tensor]) -> str | None:
        """Describe a fault in the row lengths, by part, of an index that was read from disk; None without one."""
        return "must give each row a vector" if bool((lengths[VECTORS] < 1).any()) else None

    def store(self, directory: str | None, precision: str | None, identity: Mapping[str, Any]) -> EmbeddingStore:
        if directory is None:
            return MemoryStore(precision or "float32")
        (tokens,) = self.tokenize([_PROBE], "doc")
        length = min(len(tokens), (self.max_positions or self.spec.max_length) - self.overhead(tokens, tokens))
        (probe,) = self.encode([self.row(tokens, tokens, 0, length, (0, 0, 0))])
        exact = self._dtype == torch.float32 and not self.execution.int8
        return DiskStore.open(
            directory, precision, identity, probe, exact=exact, device=self.device, length_check=self.wrong_lengths
        )

    def explain(self, query: QueryRow, row: Row, embedding: Embedding | RowRef) -> list[tuple[int, int, float]]:
        (encoded,) = self.encode_queries([query])
        document = embedding.embedding if isinstance(embedding, RowRef) else embedding
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

    def token_text(self, token: int) -> str:
        return str(self.tokenizer.raw.id_to_token(token))


def _by_block(
    embeddings: Sequence[Embedding | RowRef], items: Sequence[int]
) -> list[tuple[Block, Sequence[int], Sequence[int]]]:
    """Group embeddings by the block that they are in: ``(block, rows in ascending order, their items)``. Embeddings
    that are in no block yet become one."""
    pairs = list(zip(embeddings, items, strict=True))
    groups: list[tuple[Block, Sequence[int], Sequence[int]]] = []
    if loose := [(embedding, item) for embedding, item in pairs if not isinstance(embedding, RowRef)]:
        block, order = gather([embedding for embedding, _ in loose])
        groups.append((block, range(len(order)), [loose[number][1] for number in order]))
    stored: dict[int, list[tuple[int, int]]] = {}
    blocks: dict[int, Block] = {}
    for embedding, item in pairs:
        if isinstance(embedding, RowRef):
            blocks[id(embedding.block)] = embedding.block
            stored.setdefault(id(embedding.block), []).append((embedding.number, item))
    for key, rows in stored.items():
        rows.sort()
        groups.append((blocks[key], [row for row, _ in rows], [item for _, item in rows]))
    return groups
