"""Whether a module, its tokenizer and its template belong together, asked once when they are loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rerank_core.backends.tokenizer import TextTokenizer
from rerank_core.errors import CheckpointError, InputError

__all__ = ["check_pieces", "check_vocabulary"]


def check_pieces(tokenizer: TextTokenizer, around: Mapping[str, Sequence[str]], model: str) -> None:
    """Refuse special tokens token_text out beside the caller's text, where they would be read as text."""
    literal = [text for texts in around.values() for text in texts]
    for token in tokenizer.raw.get_added_tokens_decoder().values():
        if token.special and any(token.content in text for text in literal):
            raise InputError(
                f"model {model!r}: {token.content!r} stands in a query or doc piece of the template, where it would be "
                "read as text; the tokenizer's own layout brings the special tokens"
            )


def check_vocabulary(module: Any, tokenizer: TextTokenizer, model: str) -> None:
    """Refuse another model's tokenizer: its ids would read past the embedding table, on CUDA fatally."""
    rows = module.get_input_embeddings().weight.shape[0]
    size = max(tokenizer.raw.get_vocab(with_added_tokens=True).values()) + 1
    if size > rows:
        raise CheckpointError(
            f"model {model!r}: the tokenizer has {size} tokens and the weights have {rows}; they do not belong together"
        )
