"""What all torch scorers share: the module, the tokenizer, rows packed or padded, and what to do without memory."""

from __future__ import annotations

import functools
import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch

from rerank_core.backends.tokenizer import TextTokenizer
from rerank_core.backends.torch.attention import packing
from rerank_core.backends.torch.attention.padding import padded, padding_keeps_scores, reset_rotary_cache, rotary_limit
from rerank_core.backends.torch.check_tokenizer import check_pieces, check_vocabulary
from rerank_core.backends.torch.execution import Execution
from rerank_core.backends.torch.linear import int8 as quantization
from rerank_core.backends.torch.linear import onednn
from rerank_core.backends.torch.load_weights import max_positions, position_offset
from rerank_core.errors import CheckpointError, InputError
from rerank_core.scorer import Batch, Layout, Output, QueryRow, Row, Tokens
from rerank_core.spec import ModelSpec

__all__ = ["TorchScorer"]

_LOG = logging.getLogger(__name__)

# Tokens of a forward pass, by device. On CPU 2,048 packed tokens were best at 12 x 384 and 12 x 768 (1,024 and 4,096
# lay within 5 %); padded rows gain from a wider batch. On an H200 in bfloat16, where launching kernels costs most,
# 65,536 was best packed and 32,768 padded, at both sizes.
_PACKED_BUDGETS = {"cpu": 2048, "cuda": 65536}
_PADDED_BUDGETS = {"cpu": 4096, "cuda": 32768}


class TorchScorer(ABC):
    """A transformers module behind the seam.

    Subclasses say how a row is assembled and what to `read` off the module. Rows are packed where the module can be,
    and padded elsewhere; ``packed = False`` forces the padded path, the slow twin.

    Args:
        execution: whether rows are packed, products are int8, and the module belongs to the caller.
    """

    layout: Layout
    packed_budgets: Mapping[str, int] = _PACKED_BUDGETS

    def __init__(
        self,
        module: torch.nn.Module,
        tokenizer: TextTokenizer,
        spec: ModelSpec,
        *,
        execution: Execution,
    ) -> None:
        self.module = module
        self.execution = execution
        self.tokenizer = tokenizer
        self.spec = spec
        self.max_positions = max_positions(module)
        self._first_position = position_offset(module)
        config: Any = module.config
        check_vocabulary(module, tokenizer, spec.name)
        self.typed = (getattr(config, "type_vocab_size", None) or 0) > 1
        self.filler = getattr(config, "pad_token_id", None) or 0
        pieces = {"query": spec.template.query, "doc": spec.template.doc}
        self._literal_text = {side: piece.split("{" + side + "}") for side, piece in pieces.items()}
        check_pieces(tokenizer, self._literal_text, spec.name)
        self.packed = False
        self._allow_varlen = True
        self._rotary_limit = rotary_limit(module)
        self._ceiling = math.inf
        if execution.pack:
            self._speed_up(prepacked=not execution.int8 and not execution.live)
        if not self.packed and self.one_by_one:
            _LOG.warning(
                "model %r: padding beside a row changes its score, so rows are computed one by one, which is slow",
                spec.name,
            )
        if execution.int8:
            self._quantize()

    def _speed_up(self, *, prepacked: bool) -> None:
        """Take each faster way that gives, on a few short rows, what the plain module gave; undo the others."""
        expected = self.probe(packed=False)
        module: Any = self.module
        attention = getattr(module.config, "_attn_implementation", None)

        def right(packed: bool) -> bool:
            try:
                if packed:
                    module.set_attn_implementation(packing.NAME)
                found = self.probe(packed=packed)
                if not packing.agree(expected, found, self._dtype):
                    return False
                if not packed or self._dtype == torch.float32:
                    return True
                beside = self.probe(packed=True, others=True)
                return packing.agree(found[:1], beside[:1], torch.float32)
            except Exception:  # noqa: BLE001 -- whatever a model makes of it, it is not used then
                return False

        for settings in self.packing_variants():
            vars(self).update(settings)
            self.packed = right(packed=True)
            if self.packed:
                break
        if not self.packed:
            module.set_attn_implementation(attention)
        elif (undo := self.skip_unread()) is not None and not right(packed=True):
            undo()
        if prepacked and onednn.available(module):
            replaced = onednn.prepack(module)
            if not right(self.packed):
                onednn.restore(replaced)

    def packing_variants(self) -> list[dict[str, Any]]:
        """Settings of this scorer under which packing is tried in turn, the fastest first."""
        # A kernel that is wrong or refuses here is no reason to pad: groups need nothing but SDPA.
        kernels = (True, False) if self.device.type == "cuda" else (True,)
        return [{"_allow_varlen": one} for one in kernels]

    @functools.cached_property
    def one_by_one(self) -> bool:
        """Whether rows that are padded together get other scores than alone: then each is computed alone."""
        try:
            return not self.pads()
        except Exception:  # noqa: BLE001 -- whatever a model makes of padding, it is not padded then
            return True

    def pads(self) -> bool:
        return padding_keeps_scores(self)

    def apart(self, lengths: Sequence[int], *, packed: bool) -> bool:
        """Whether rows of these lengths must be computed alone; one that must be, and is, finds the module ready."""
        over = max(lengths) > self._rotary_limit
        if over:
            reset_rotary_cache(self.module)
        return len(lengths) > 1 and (over or (not packed and self.one_by_one))

    def probe(self, *, packed: bool, others: bool = False, together: bool = False) -> list[torch.Tensor]:
        """What is read of a few short rows.

        Args:
            others: the first row beside other neighbours of the same lengths.
            together: where they are not packed, all in one pass instead of each alone.
        """
        rows = packing.probe_rows(self.module)
        if others:
            rows = packing.other_neighbours(rows)
        if packed or together:
            return list(self.read(rows, [None] * len(rows), packed=packed))
        return [self.read([row], [None], packed=False)[0] for row in rows]

    def _quantize(self) -> None:
        """Round the encoder's weights to int8.

        Raises:
            InputError: not on the CPU.
            CheckpointError: numbers that int8 makes infinite or NaN.
        """
        if self.device.type != "cpu" or not quantization.available():
            raise InputError(
                f"dtype is 'int8', and {self.spec.name!r} is on {str(self.device)!r}; it needs the CPU, and a "
                "torch with oneDNN's int8 operators. Use float16 or bfloat16 on a GPU"
            )
        quantization.quantize(self.module)
        if not all(bool(torch.isfinite(found).all()) for found in self.probe(packed=self.packed)):
            raise CheckpointError(f"model {self.spec.name!r} gives NaN or infinity in int8; use float32")

    def skip_unread(self) -> Callable[[], None] | None:
        """Leave out what `read` does not need of a packed batch; returns how to undo it, None where nothing is."""
        return None

    @property
    def token_budget(self) -> int:
        """What suits the device that the module is on, or as much of it as memory was found to hold."""
        budgets = self.packed_budgets if self.packed else _PADDED_BUDGETS
        return int(min(self._ceiling, budgets.get(self.device.type, budgets["cpu"])))

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

    def forward(self, batch: Batch) -> Output:
        """The batch's scores; in halves where memory does not suffice, or where rows must be alone.

        Half of what did not fit is the most that is tried from then on, whatever budget the caller asked for.
        """
        tokens = self._tokens(batch)
        apart = self.layout != "separate" and self.apart(self._lengths(batch), packed=self.packed)
        if len(batch.rows) == 1 or (tokens <= self._ceiling and not apart):
            try:
                with torch.inference_mode():  # weights in training ask for gradients
                    return self.score(batch)
            except torch.OutOfMemoryError:
                if len(batch.rows) == 1:
                    raise
            self._ceiling = max(1, tokens // 2)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
        middle = len(batch.rows) // 2
        halves = [self.forward(Batch(batch.queries, rows)) for rows in (batch.rows[:middle], batch.rows[middle:])]
        scores = {name: [*halves[0].scores[name], *halves[1].scores[name]] for name in halves[0].scores}
        return Output(scores, self.merge_states(halves[0].state, halves[1].state, middle))

    def merge_states(self, first: Any, second: Any, count: int) -> Any:
        """The state of a batch from those of its halves; ``count`` rows are in the first."""
        return None

    def _lengths(self, batch: Batch) -> list[int]:
        return [len(row.ids) for row in batch.rows]

    def _tokens(self, batch: Batch) -> int:
        lengths = self._lengths(batch)
        return sum(lengths) if self.packed else len(lengths) * max(lengths)

    @abstractmethod
    def score(self, batch: Batch) -> Output:
        """Raw scores of the batch's rows in one pass."""

    def read(self, rows: Sequence[Sequence[int]], types: Sequence[Sequence[int] | None], *, packed: bool) -> Any:
        """What a score is made of, one tensor a row; for a scorer without a `trial` of its own."""
        raise NotImplementedError

    def outputs(
        self,
        rows: Sequence[Sequence[int]],
        types: Sequence[Sequence[int] | None],
        *,
        packed: bool,
        attended: Sequence[int | None] = (),
        **more: Any,
    ) -> Any:
        """The module's output for rows: ``[1, total]`` positions where packed, else ``[len(rows), longest]``.

        Args:
            attended: how many tokens of each row are attended to, from the first; None for all. Not where packed.
        """
        made = self.laid_out(rows, types, packed=packed, attended=attended)
        with torch.inference_mode(), self._evaluating():
            return self.module(**made, **more)

    def laid_out(
        self,
        rows: Sequence[Sequence[int]],
        types: Sequence[Sequence[int] | None],
        *,
        packed: bool,
        attended: Sequence[int | None] = (),
    ) -> dict[str, Any]:
        """The module's inputs for rows; see `outputs`."""
        if not packed:
            seen = attended or [None] * len(rows)
            return padded(rows, types, seen, filler=self.filler, typed=self.typed, device=self.device)
        return packing.inputs(
            rows,
            types,
            first_position=self._first_position,
            typed=self.typed,
            device=self.device,
            allow_varlen=self._allow_varlen,
        )

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        """The module in eval mode; a module in training is put back into it (dropout would make scores random)."""
        training = self.module.training
        if training:
            self.module.eval()
        try:
            yield
        finally:
            if training:
                self.module.train()

    def close(self) -> None:  # noqa: B027 -- a scorer with more to let go of may say so
        """Nothing to do: the weights go with the last reference to them, so that a call under way can end."""
