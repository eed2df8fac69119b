"""The base class of torch scorers: holds module and tokenizer, lays rows out packed or padded, and recovers from
out-of-memory by halving the batch."""

from __future__ import annotations

import functools
import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Literal

import torch

from rerank_core.backends.tokenizer import TextTokenizer
from rerank_core.backends.torch.attention import packing
from rerank_core.backends.torch.attention.padding import padded, padding_keeps_scores, reset_rotary_cache, rotary_limit
from rerank_core.backends.torch.check_tokenizer import check_pieces, check_vocabulary
from rerank_core.backends.torch.encoder.products import Int8, MakeProduct, Plain, Prepared
from rerank_core.backends.torch.encoder.straighten import Replaced, restore, straighten
from rerank_core.backends.torch.execution import Execution
from rerank_core.backends.torch.linear import int8 as quantization
from rerank_core.backends.torch.linear import onednn
from rerank_core.backends.torch.load_weights import max_positions, position_offset
from rerank_core.backends.torch.process_memory import keep_freed_memory, memory_ran_out
from rerank_core.backends.torch.workers.parallel_scorer import ParallelScorer
from rerank_core.errors import CheckpointError, InputError
from rerank_core.scorer import Batch, Layout, Output, QueryRow, Row, Tokens
from rerank_core.spec import ModelSpec

__all__ = ["TorchScorer"]

_LOG = logging.getLogger(__name__)


class TorchScorer(ParallelScorer, ABC):
    """A `Scorer` around a transformers module.

    A subclass assembles rows and reads the tensors that scores are computed from (`read`). Rows are packed if that does
    not change the results, else they are padded. Setting ``packed = False`` forces padding.

    Args:
        execution: whether rows are packed, products are int8, and the module belongs to the caller.
    """

    layout: Layout

    def __init__(
        self, module: torch.nn.Module, tokenizer: TextTokenizer, spec: ModelSpec, *, execution: Execution
    ) -> None:
        self.module = module
        self.execution = execution
        self.tokenizer = tokenizer
        self.spec = spec
        self.max_positions = max_positions(module)
        self._first_position = position_offset(module)
        config: Any = module.config
        check_vocabulary(packing.embedding_rows(module), tokenizer, spec.name)
        self.typed = (getattr(config, "type_vocab_size", None) or 0) > 1
        self.filler = getattr(config, "pad_token_id", None) or 0
        pieces = {"query": spec.template.query, "doc": spec.template.doc}
        self._literal_text = {side: piece.split("{" + side + "}") for side, piece in pieces.items()}
        check_pieces(tokenizer, self._literal_text, spec.name)
        self.packed = False
        self._allow_varlen = True
        self._rotary_limit = rotary_limit(module)
        self._independent = self._rotary_limit == math.inf
        self._ceiling = math.inf
        self.prepacked: list[Any] = []
        self.straightened: Replaced = []
        if self.device.type == "cpu":
            keep_freed_memory()
        if execution.pack:
            self._speed_up(prepacked=not execution.int8 and not execution.live)
        if not self.packed and self.one_by_one:
            _LOG.warning(
                "model %r: padding changes the score of a row, so rows are computed one by one, which is slow",
                spec.name,
            )
        if execution.int8:
            self._quantize()

    def _speed_up(self, *, prepacked: bool) -> None:
        """Turn on each optimization that gives the plain module's results on a few short rows."""
        expected = self.probe(packed=False)
        module: Any = self.module
        attention = getattr(module.config, "_attn_implementation", None)

        def is_exact(packed: bool) -> bool:
            try:
                if packed:
                    packing.set_attention(module, packing.NAME)
                results = self.probe(packed=packed)
                if not packing.agree(expected, results, self._dtype):
                    return False
                if not packed or self._dtype == torch.float32:
                    return True
                # In half precision the tolerance is wide; the first row must not depend on the other rows at all.
                changed = self.probe(packed=True, others=True)
                return packing.agree(results[:1], changed[:1], torch.float32)
            except Exception:  # noqa: BLE001 -- an architecture may fail in any way; the optimization is not used then
                return False

        for settings in self.packing_variants():
            vars(self).update(settings)
            self.packed = is_exact(packed=True)
            if self.packed:
                break
        if not self.packed:
            packing.set_attention(module, attention)
        elif (undo := self.skip_unread()) is not None and not is_exact(packed=True):
            undo()
        if self.execution.live:
            return
        prepared: list[MakeProduct] = [Prepared] if prepacked and onednn.available(module) else []
        for make in [Int8] if self.execution.int8 else [*prepared, Plain]:
            self.straightened = straighten(module, lambda: self.probe(packed=self.packed), make)
            self.prepacked = onednn.prepack(module) if make is Prepared else []
            if make is Int8 or is_exact(self.packed):
                return
            onednn.restore(self.prepacked)
            restore(self.straightened)
            self.prepacked, self.straightened = [], []

    def packing_variants(self) -> list[dict[str, Any]]:
        """Attribute values with which packing is tried in turn, the fastest first."""
        # Without the variable-length kernel, rows of equal length attend in one call of SDPA.
        kernels = (True, False) if self.device.type == "cuda" else (True,)
        return [{"_allow_varlen": varlen} for varlen in kernels]

    @functools.cached_property
    def one_by_one(self) -> bool:
        """Whether padding changes scores, so that padded rows are computed one by one."""
        try:
            return not self.can_pad()
        except Exception:  # noqa: BLE001 -- an architecture may fail in any way; its rows are not padded then
            return True

    def can_pad(self) -> bool:
        """Whether rows have the same scores in one padded batch as in batches of one row."""
        return padding_keeps_scores(self)

    def must_split(self, lengths: Sequence[int], *, packed: bool) -> bool:
        """Whether rows of these lengths must run one by one. Resets the rotary cache if a row exceeds its limit."""
        is_long = max(lengths) > self._rotary_limit
        if is_long:
            reset_rotary_cache(self.module)
        return len(lengths) > 1 and (is_long or (not packed and self.one_by_one))

    def probe(self, *, packed: bool, others: bool = False, together: bool = False) -> list[torch.Tensor]:
        """The results of `read` for a few short rows.

        Args:
            others: keep the first row and change the others, at the same lengths.
            together: pad the rows to one batch instead of computing them one by one; packed rows are always one batch.
        """
        rows = packing.probe_rows(self.module)
        if others:
            rows = packing.other_neighbours(rows)
        if packed or together:
            return list(self.read(rows, [None] * len(rows), packed=packed))
        return [self.read([row], [None], packed=False)[0] for row in rows]

    def _quantize(self) -> None:
        """Quantize the encoder's linear layers to int8.

        Raises:
            InputError: the module is not on the CPU, or torch lacks the operators.
            CheckpointError: the quantized module gives infinity or NaN.
        """
        if self.device.type != "cpu" or not quantization.available():
            raise InputError(
                f"dtype is 'int8', and {self.spec.name!r} is on {str(self.device)!r}; it needs the CPU, and a "
                "torch with oneDNN's int8 operators. Use float16 or bfloat16 on a GPU"
            )
        quantization.quantize(self.module)
        if not all(bool(torch.isfinite(result).all()) for result in self.probe(packed=self.packed)):
            raise CheckpointError(f"model {self.spec.name!r} gives NaN or infinity in int8; use float32")

    def skip_unread(self) -> Callable[[], None] | None:
        """Skip what `read` does not need of a packed batch; returns a function that undoes it, or None if unchanged."""
        return None

    @property
    def device(self) -> torch.device:
        return next(self.module.parameters()).device

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.module.parameters()).dtype

    @abstractmethod
    def overhead(self, query: Tokens, doc: Tokens) -> int: ...
    @abstractmethod
    def query_row(self, query: Tokens) -> QueryRow | None: ...
    @abstractmethod
    def row(self, query: Tokens, doc: Tokens, start: int, stop: int, owner: tuple[int, int, int]) -> Row: ...

    def tokenize(self, texts: Sequence[str], side: Literal["query", "doc"]) -> list[Tokens]:
        before, after = self._literal_text[side]
        return self.tokenizer.encode(texts, before, after)

    def token_key(self, side: Literal["query", "doc"]) -> Hashable:
        return self.tokenizer.digest, *self._literal_text[side]

    def forward(self, batch: Batch) -> Output:
        """The scores of a batch. It is halved on an out-of-memory error, or where rows must be computed one by one.

        After an out-of-memory error later batches have at most half as many tokens, even under a larger budget.
        """
        tokens = self._tokens(batch)
        split = self.layout != "separate" and self.must_split(self._lengths(batch), packed=self.packed)
        if len(batch.rows) == 1 or (tokens <= self._ceiling and not split):
            try:
                with self.computing():
                    return self.score(batch)
            except RuntimeError as error:
                if len(batch.rows) == 1 or not memory_ran_out(error):
                    raise
            self._ceiling = max(1, tokens // 2)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
        middle = len(batch.rows) // 2
        halves = [self.forward(Batch(batch.queries, rows)) for rows in (batch.rows[:middle], batch.rows[middle:])]
        scores = {name: [*halves[0].scores[name], *halves[1].scores[name]] for name in halves[0].scores}
        return Output(scores, self.merge_states(halves[0].state, halves[1].state, middle))

    def merge_states(self, first: Any, second: Any, count: int) -> Any:
        """The state of a batch from the states of its halves; the first half has ``count`` rows."""
        return None

    def _lengths(self, batch: Batch) -> list[int]:
        return [len(row.ids) for row in batch.rows]

    def _tokens(self, batch: Batch) -> int:
        lengths = self._lengths(batch)
        return sum(lengths) if self.packed else len(lengths) * max(lengths)

    @abstractmethod
    def score(self, batch: Batch) -> Output:
        """Raw scores of the batch's rows in one forward pass."""

    def read(self, rows: Sequence[Sequence[int]], types: Sequence[Sequence[int] | None], *, packed: bool) -> Any:
        """The tensors that scores are computed from, one a row. A scorer that overrides `probe` need not have it."""
        raise NotImplementedError

    def outputs(
        self,
        rows: Sequence[Sequence[int]],
        types: Sequence[Sequence[int] | None],
        *,
        packed: bool,
        attended: Sequence[int | None] = (),
        **kwargs: Any,
    ) -> Any:
        """The module's output for rows: of shape ``[1, total, ...]`` if packed, else ``[len(rows), longest, ...]``.

        Args:
            attended: number of leading tokens of each row that are attended to, None for all; padded rows only.
            kwargs: further arguments of the module.
        """
        inputs = self.module_inputs(rows, types, packed=packed, attended=attended)
        with self.computing():
            return self.module(**inputs, **kwargs)

    def module_inputs(
        self,
        rows: Sequence[Sequence[int]],
        types: Sequence[Sequence[int] | None],
        *,
        packed: bool,
        attended: Sequence[int | None] = (),
    ) -> dict[str, Any]:
        """The module's inputs for rows; see `outputs`."""
        if not packed:
            counts = attended or [None] * len(rows)
            return padded(rows, types, counts, filler=self.filler, typed=self.typed, device=self.device)
        return packing.inputs(
            rows,
            types,
            first_position=self._first_position,
            typed=self.typed,
            device=self.device,
            allow_varlen=self._allow_varlen,
        )

    def close(self) -> None:
        """Does nothing: the weights are freed with the last reference to them, so that a running call can finish."""
