"""`JointScorer`: the layout of cross-encoders, query and document together in one row."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, TypeVar

import torch

from rerank_core.backends.frames import PairFrame, pair_frame
from rerank_core.backends.literal_frame import LiteralFrame, literal_frame
from rerank_core.backends.tokenizer import TextTokenizer
from rerank_core.backends.torch.base import TorchScorer
from rerank_core.backends.torch.execution import Execution
from rerank_core.errors import InputError
from rerank_core.scorer import Batch, Layout, Output, QueryRow, Row, Tokens
from rerank_core.spec import ModelSpec
from rerank_core.spec.template import RenderedTemplate

__all__ = ["JointScorer"]

_Self = TypeVar("_Self", bound="JointScorer")


class JointScorer(TorchScorer):
    """Lays out query and document in one row, by the tokenizer's pair template or by the literal pieces of a template.

    A subclass gives one score a row in `read`.

    Args:
        options: values of the model's options that the template names.
    """

    layout: Layout = "joint"

    def __init__(
        self,
        module: torch.nn.Module,
        tokenizer: TextTokenizer,
        spec: ModelSpec,
        *,
        execution: Execution,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        if spec.template.wrap == "each":
            raise InputError(
                f"model {spec.name!r}: a cross-encoder reads query and document in one row, so it takes "
                f"Template.pair() or a template of literal pieces, not {spec.template!r}"
            )
        super().__init__(module, tokenizer, spec, execution=execution)
        self._values = {option.name: option.default for option in spec.options} | dict(options or {})
        self._literal: dict[str, tuple[int, ...]] = {}
        self._configure()

    def configured(self: _Self, options: Mapping[str, Any]) -> _Self:
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

    def forward_inputs(self, batch: Batch, *, packed: bool) -> dict[str, Any]:
        return self.module_inputs([row.ids for row in batch.rows], [row.types for row in batch.rows], packed=packed)

    def score(self, batch: Batch) -> Output:
        scores = self.read([row.ids for row in batch.rows], [row.types for row in batch.rows], packed=self.packed)
        return Output({"score": scores.tolist()})
