"""Cross-encoders: a sequence classifier reads query and document together."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from rerank_core.backends.frames import PairFrame, pair_frame, stacked_frame
from rerank_core.backends.literal_frame import LiteralFrame, literal_frame
from rerank_core.backends.tokenizer import TextTokenizer
from rerank_core.backends.torch.base import TorchScorer
from rerank_core.backends.torch.cross_encoder.last_layer import gather_cls, last_layer_for_cls_only
from rerank_core.backends.torch.execution import Execution
from rerank_core.backends.torch.label_score import check_labels, label_score
from rerank_core.errors import CheckpointError, InputError
from rerank_core.scorer import Batch, Layout, Output, QueryRow, Row, Tokens
from rerank_core.spec import ModelSpec
from rerank_core.spec.template import RenderedTemplate

__all__ = ["ClassifierScorer"]


class ClassifierScorer(TorchScorer):
    """Scores a row by its single logit, or by the log-odds of one label against all others; in float32.

    Args:
        label: the number of the label that is the score, where there are several; see `labels.label_index`.
        options: values of the model's options that are named in the template.

    Raises:
        CheckpointError: a module whose labels are not those of the spec's head.
    """

    layout: Layout = "joint"

    def __init__(
        self,
        module: torch.nn.Module,
        tokenizer: TextTokenizer,
        spec: ModelSpec,
        *,
        execution: Execution,
        label: int = 0,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        check_labels(module, spec)
        self._label = label
        if spec.template.wrap == "each":
            raise InputError(
                f"model {spec.name!r}: a classifier reads query and document in one row, not {spec.template!r}"
            )
        if hasattr(module, "score") and getattr(module.config, "pad_token_id", None) is None:
            raise CheckpointError(
                f"model {spec.name!r}: a decoder classifier needs pad_token_id to find the last token of a row, and "
                "config.json has none; set it to the id of the tokenizer's padding token"
            )
        if execution.pack:
            gather_cls(module)
        super().__init__(module, tokenizer, spec, execution=execution)
        self._values = {option.name: option.default for option in spec.options} | dict(options or {})
        self._literal: dict[str, tuple[int, ...]] = {}
        self._configure()

    def configured(self, options: Mapping[str, Any]) -> ClassifierScorer:
        other = copy.copy(self)
        other._values = self._values | dict(options)
        other._configure()
        return other

    def _configure(self) -> None:
        wording = RenderedTemplate.of(self.spec.template, self.spec.options, self._values, self.tokenizer.bos)
        self._literal_text = {side: list(pieces) for side, pieces in wording.around.items()}
        self._frame: PairFrame | LiteralFrame
        if self.spec.template.wrap == "pair":
            self._frame = pair_frame(self.tokenizer, typed=self.typed)
        else:
            self._frame = literal_frame(self.tokenizer, wording, self._literal)

    def overhead(self, query: Tokens, doc: Tokens) -> int:
        return self._frame.overhead(query, doc)

    def query_row(self, query: Tokens) -> QueryRow | None:
        return None

    def row(self, query: Tokens, doc: Tokens, start: int, stop: int, owner: tuple[int, int, int]) -> Row:
        return self._frame.row(query, doc, start, stop, owner)

    def stacked(self) -> ClassifierScorer:
        """A copy of this scorer with BCEmbedding's layout (`stacked_frame`).

        Raises:
            InputError: a template with literal pieces, which that layout does not have.
        """
        if self.spec.template.wrap != "pair":
            raise InputError(
                f"compat: rows of BCEmbedding have no literal text, and {self.spec.template!r} has; leave compat out"
            )
        other = copy.copy(self)
        other._frame = stacked_frame(self.tokenizer, typed=self.typed)
        return other

    def skip_unread(self) -> Callable[[], None] | None:
        return last_layer_for_cls_only(self.module, live=self.execution.live)

    def forward_inputs(self, batch: Batch, *, packed: bool) -> dict[str, Any]:
        return self.module_inputs([row.ids for row in batch.rows], [row.types for row in batch.rows], packed=packed)

    def scores_from(self, output: Any) -> torch.Tensor:
        return label_score(output.logits, self._label)

    def score(self, batch: Batch) -> Output:
        scores = self.read([row.ids for row in batch.rows], [row.types for row in batch.rows], packed=self.packed)
        return Output({"score": scores.tolist()})

    def read(
        self, rows: Sequence[Sequence[int]], types: Sequence[Sequence[int] | None], *, packed: bool
    ) -> torch.Tensor:
        """Scores ``[len(rows)]``."""
        return label_score(self.outputs(rows, types, packed=packed).logits, self._label)
