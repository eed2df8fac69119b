"""The base class of scorers that encode query and document separately and compare their embeddings.

A document's embedding does not depend on the query, so it can be computed once (`Indexable`, `Storable`).
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import torch

from rerank_core.backends.frames import single_frame
from rerank_core.backends.tokenizer import TextTokenizer
from rerank_core.backends.torch.attention.causal_packing import CausalPacking
from rerank_core.backends.torch.base import TorchScorer
from rerank_core.backends.torch.execution import Execution
from rerank_core.backends.torch.late_interaction.embeddings import Block, Embedding, RowRef, by_block
from rerank_core.backends.torch.late_interaction.recent_queries import RecentQueries
from rerank_core.backends.torch.late_interaction.store.disk import DiskStore
from rerank_core.backends.torch.late_interaction.store.memory import MemoryStore
from rerank_core.backends.torch.late_interaction.vectors import row_states
from rerank_core.errors import CheckpointError, InputError, short
from rerank_core.index.protocols import EmbeddingStore
from rerank_core.scorer import Batch, Layout, Output, QueryRow, Row, Tokens
from rerank_core.spec import ModelSpec
from rerank_core.spec.template import RenderedTemplate

__all__ = ["SeparateScorer"]

_Self = TypeVar("_Self", bound="SeparateScorer")

# Encoded when an index is opened, to recognise the model: long enough to differ for other weights, in two languages.
_PROBE = "Giant pandas eat bamboo, about 12 kg a day. 大熊猫主要吃竹子，每天约十二公斤。"


class SeparateScorer(TorchScorer):
    """Query and document are rows of their own, whose embeddings are compared. A subclass says what an embedding is
    (`embed`) and how two are compared (`compare`).

    Args:
        least, filler, attend: how short queries are filled up; see `single_frame`.
        layers: the names of the head's layers after the encoder; empty for a head without any.
        project: these layers; by default the module's own submodule ``projection``, where trainers keep them.
        options: values of the model's options; the query's piece of the template may name them.

    Raises:
        CheckpointError: layers without names, or names without layers.
        InputError: a template that is not for separate rows, or whose document's piece names an option: a document's
            embedding does not depend on the call.
    """

    layout: Layout = "separate"

    def __init__(
        self,
        module: torch.nn.Module,
        tokenizer: TextTokenizer,
        spec: ModelSpec,
        *,
        execution: Execution,
        least: int = 0,
        filler: str = "",
        attend: bool = True,
        layers: Sequence[str] = (),
        project: torch.nn.Module | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        template = spec.template
        if template.wrap != "each":
            raise InputError(
                f"model {spec.name!r} encodes query and document separately, with Template.each(); got {template!r}"
            )
        found = project is not None or (layers and isinstance(getattr(module, "projection", None), torch.nn.Module))
        if bool(found) != bool(layers):
            raise CheckpointError(
                f"model {spec.name!r} has the projection {tuple(layers)!r}, and the scorer was made "
                f"{'with' if found else 'without'} one"
            )
        self._layers, self._projection = tuple(layers), project
        self._causal = False
        if named := [option.name for option in spec.options if "{" + option.name + "}" in template.doc]:
            raise InputError(
                f"model {spec.name!r}: the document's piece {short(template.doc)} names the option {named[0]!r}; a "
                "document is encoded once for all calls, so only the query's piece may"
            )
        super().__init__(module, tokenizer, spec, execution=execution)
        self._frame = single_frame(tokenizer, marker=template.doc_marker)
        self._query_frame = single_frame(
            tokenizer, marker=template.query_marker, least=least, filler=filler, attend=attend
        )
        self._values = {option.name: option.default for option in spec.options} | dict(options or {})
        self._configure()

    def configured(self: _Self, options: Mapping[str, Any]) -> _Self:
        """This scorer with other values of its call options; it shares the module."""
        other = copy.copy(self)
        other._values = self._values | dict(options)
        other._configure()
        return other

    def _configure(self) -> None:
        self._recent = RecentQueries()
        wording = RenderedTemplate.of(self.spec.template, self.spec.options, self._values, self.tokenizer.bos)
        self._literal_text = {side: list(pieces) for side, pieces in wording.around.items()}

    @property
    def project(self) -> Any:
        """The layers after the encoder, None without any: those that were given, or the module's ``projection`` as it
        is now, which peft may have replaced."""
        live: Any = self.module
        if not self._layers or self._projection is not None:
            return self._projection
        return live.projection

    def overhead(self, query: Tokens, doc: Tokens) -> int:
        return self._frame.overhead(doc)

    def query_row(self, query: Tokens) -> QueryRow | None:
        return self._query_frame.query_row(query)

    def row(self, query: Tokens, doc: Tokens, start: int, stop: int, owner: tuple[int, int, int]) -> Row:
        return self._frame.row(doc, start, stop, owner)

    @abstractmethod
    def embed(
        self, hidden: Sequence[torch.Tensor], rows: Sequence[Sequence[int]], *, is_query: bool
    ) -> list[Embedding]:
        """The embeddings of rows from their last hidden states.

        Args:
            hidden: ``[len(row), width]`` for each row; a row may have no tokens.
            rows: the token ids of each row.
            is_query: whether the rows are queries.
        """

    @abstractmethod
    def compare(self, query: Embedding, block: Block, rows: Sequence[int]) -> dict[str, torch.Tensor]:
        """Scores ``[rows]`` of one query with some rows of a block, by name; the first name ranks."""

    # ------------------------------------------------------------------ encoding
    def packing_variants(self) -> list[dict[str, Any]]:
        # A decoder's tokens attend to earlier ones only.
        kernels = super().packing_variants()
        return [{**settings, "_causal": causal} for causal in (False, True) for settings in kernels]

    def module_inputs(
        self,
        rows: Sequence[Sequence[int]],
        types: Sequence[Sequence[int] | None],
        *,
        packed: bool,
        attended: Sequence[int | None] = (),
    ) -> dict[str, Any]:
        """See `TorchScorer.module_inputs`; packed rows of a decoder attend causally."""
        inputs = super().module_inputs(rows, types, packed=packed, attended=attended)
        live: Any = self.module
        if getattr(live.config, "use_cache", None):
            inputs["use_cache"] = False
        if packed and self._causal:
            lengths = [(0, len(row)) for row in rows]
            inputs["packing"] = CausalPacking.of([0], lengths, self.device, allow_varlen=self._allow_varlen)
        return inputs

    def read(
        self, rows: Sequence[Sequence[int]], types: Sequence[Sequence[int] | None], *, packed: bool
    ) -> list[torch.Tensor]:
        """Last hidden states ``[len(row), width]``, one tensor a row."""
        return self._hidden(rows, packed=packed)

    def _hidden(
        self, rows: Sequence[Sequence[int]], *, packed: bool, attended: Sequence[int | None] = ()
    ) -> list[torch.Tensor]:
        types = [None] * len(rows)
        lengths = [len(row) for row in rows]
        with self.computing():
            hidden = self.outputs(rows, types, packed=packed, attended=attended).last_hidden_state
            if packed:
                return list(torch.split(hidden[0], lengths))
            return [hidden[row, :length] for row, length in enumerate(lengths)]

    def encode_queries(self, queries: Sequence[QueryRow]) -> list[Embedding]:
        """The embeddings of queries."""
        rows = [row.ids for row in queries]
        attended = [row.attended for row in queries]
        # Expansion tokens attend but are not attended to, which needs a mask; packed rows have none.
        packed = self.packed and not any(attended)
        with self.computing():
            return self.embed(self._states(rows, packed=packed, attended=attended), rows, is_query=True)

    def encode(self, rows: Sequence[Row]) -> list[Embedding]:
        """One embedding per row, on the model's device."""
        ids = [row.ids for row in rows]
        with self.computing():
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

    # ------------------------------------------------------------------ training
    def encoded_rows(self, batch: Batch) -> list[Sequence[int]]:
        """The token ids of the batch's queries, then those of its rows: the order of `parts_from`."""
        return [*(query.ids for query in batch.queries.values()), *(row.ids for row in batch.rows)]

    def forward_inputs(self, batch: Batch, *, packed: bool) -> dict[str, Any]:
        """Inputs of one forward pass over queries and rows. Expansion tokens that are not attended to need a mask, so
        a batch with such a query is padded."""
        limits = [*(query.attended for query in batch.queries.values()), *[None] * len(batch.rows)]
        rows = [(ids, limit) for ids, limit in zip(self.encoded_rows(batch), limits, strict=True) if len(ids)]
        # The module of a process that has no tokens runs all the same, as those of the other processes do.
        rows = rows or [([self.filler], None)]
        attended = [limit for _, limit in rows]
        unattended = any(limit is not None for limit in attended)
        return self.module_inputs(
            [ids for ids, _ in rows], [None] * len(rows), packed=packed and not unattended, attended=attended
        )

    def encoded_states(self, output: Any, batch: Batch) -> torch.Tensor:
        """``[tokens, width]``: the last hidden states of `encoded_rows` end to end, with gradients, from the module's
        output for `forward_inputs`."""
        return row_states(output.last_hidden_state, [len(ids) for ids in self.encoded_rows(batch) if len(ids)])

    # ------------------------------------------------------------------ scores
    def score(self, batch: Batch) -> Output:
        embeddings = self.encode(batch.rows)
        return self.match(batch.queries, [(row.query, part) for row, part in zip(batch.rows, embeddings, strict=True)])

    def match(self, queries: Mapping[int, QueryRow], items: Sequence[tuple[int, Embedding | RowRef]]) -> Output:
        # The module of a caller may have other weights at the next batch.
        recent = RecentQueries() if self.needs_calling_thread else self._recent
        items_of: dict[int, list[int]] = {}
        for item, (query, _) in enumerate(items):
            items_of.setdefault(query, []).append(item)
        scores: dict[str, list[float]] = {}
        with self.computing():
            encoded = dict(zip(queries, recent.encoded(self.encode_queries, list(queries.values())), strict=True))
            for query, numbers in items_of.items():
                for block, rows, owners in by_block([items[item][1] for item in numbers], numbers):
                    for name, values in self.compare(encoded[query], block, rows).items():
                        column = scores.setdefault(name, [0.0] * len(items))
                        for item, value in zip(owners, values.tolist(), strict=True):
                            column[item] = value
        return Output(scores or {"score": []})

    # ------------------------------------------------------------------ index
    def wrong_lengths(self, lengths: Mapping[str, torch.Tensor]) -> str | None:
        """Describe a fault in the row lengths, by part, of an index that was read from disk; None without one."""
        return None

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

    def token_text(self, token: int) -> str:
        return str(self.tokenizer.raw.id_to_token(token))
