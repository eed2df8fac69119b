"""What all torch scorers share: the module, the tokenizer, and the padded layout of rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch

from rerank_core.backends.tokens import TextTokenizer
from rerank_core.backends.torch.loading import max_positions
from rerank_core.errors import CheckpointError, InputError
from rerank_core.scorer import Layout, Tokens
from rerank_core.spec import ModelSpec

__all__ = ["TorchScorer"]


class TorchScorer:
    """A transformers module behind the seam, rows padded to the longest of their batch.

    Subclasses say how a row is assembled and how a score is read.
    """

    layout: Layout
    packed = False
    # Padded batches: wide enough that a matrix product is efficient, narrow enough that sorted rows waste little.
    token_budget = 4096

    def __init__(self, module: torch.nn.Module, tokenizer: TextTokenizer, spec: ModelSpec) -> None:
        self.module = module
        self.tokenizer = tokenizer
        self.spec = spec
        self.max_positions = max_positions(module)
        config: Any = module.config
        _check_vocabulary(module, tokenizer, spec.name)
        self.typed = (getattr(config, "type_vocab_size", None) or 0) > 1
        self._pad = getattr(config, "pad_token_id", None) or 0
        pieces = {"query": spec.template.query, "doc": spec.template.doc}
        self._around = {side: piece.split("{" + side + "}") for side, piece in pieces.items()}
        for token in tokenizer.raw.get_added_tokens_decoder().values():
            if token.special and any(token.content in text for around in self._around.values() for text in around):
                raise InputError(
                    f"model {spec.name!r}: {token.content!r} stands in a query or doc piece of the template, where it "
                    "would be read as text; the tokenizer's own layout brings the special tokens"
                )

    @property
    def device(self) -> torch.device:
        return next(self.module.parameters()).device

    def tokenize(self, texts: Sequence[str], side: Literal["query", "doc"]) -> list[Tokens]:
        before, after = self._around[side]
        return self.tokenizer.encode(texts, before, after)

    def padded(self, rows: Sequence[Sequence[int]], types: Sequence[Sequence[int] | None]) -> dict[str, torch.Tensor]:
        """Model inputs ``[len(rows), longest]``, padded on the right; token types where the model has them."""
        width = max(map(len, rows))
        ids = torch.full((len(rows), width), self._pad, dtype=torch.long)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        kinds = torch.zeros((len(rows), width), dtype=torch.long)
        for place, (row, kind) in enumerate(zip(rows, types, strict=True)):
            ids[place, : len(row)] = torch.tensor(row, dtype=torch.long)
            mask[place, : len(row)] = 1
            if kind is not None:
                kinds[place, : len(row)] = torch.tensor(kind, dtype=torch.long)
        inputs = {"input_ids": ids, "attention_mask": mask}
        if self.typed:
            inputs["token_type_ids"] = kinds
        return {name: tensor.to(self.device) for name, tensor in inputs.items()}

    def close(self) -> None:
        """Nothing to do: the weights go with the last reference to them, so that a call under way can end."""

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """The module in eval mode; a module in training is put back into it (its dropout would make scores random)."""
        training = self.module.training
        if training:
            self.module.eval()
        try:
            yield
        finally:
            if training:
                self.module.train()


def _check_vocabulary(module: Any, tokenizer: TextTokenizer, model: str) -> None:
    """Refuse another model's tokenizer: its ids would read past the embedding table, on CUDA fatally."""
    rows = module.get_input_embeddings().weight.shape[0]
    size = max(tokenizer.raw.get_vocab(with_added_tokens=True).values()) + 1
    if size > rows:
        raise CheckpointError(
            f"model {model!r}: the tokenizer has {size} tokens and the weights have {rows}; they do not belong together"
        )
