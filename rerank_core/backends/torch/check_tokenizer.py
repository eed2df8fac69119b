"""Checks at load time that module, tokenizer and template fit each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rerank_core.backends.tokenizer import TextTokenizer, largest_id
from rerank_core.errors import CheckpointError, InputError

__all__ = ["check_pieces", "check_vocabulary"]


def check_pieces(tokenizer: TextTokenizer, literal_text: Mapping[str, Sequence[str]], model: str) -> None:
    """Refuse special tokens in the literal text of a ``query`` or ``doc`` piece: it is tokenized as plain text there.

    Args:
        literal_text: the texts before and after the placeholder, by piece.

    Raises:
        InputError: names the token.
    """
    literal = [text for texts in literal_text.values() for text in texts]
    for token in tokenizer.raw.get_added_tokens_decoder().values():
        if token.special and any(token.content in text for text in literal):
            raise InputError(
                f"model {model!r}: {token.content!r} is in the query or doc piece of the template, where it would be "
                "tokenized as plain text; the tokenizer adds the special tokens itself, so remove it"
            )


def check_vocabulary(rows: int, tokenizer: TextTokenizer, model: str) -> None:
    """Refuse a tokenizer with more tokens than embeddings: an id past the table is a fatal error on CUDA.

    Args:
        rows: the number of token embeddings.

    Raises:
        CheckpointError: names both sizes.
    """
    size = largest_id(tokenizer.raw) + 1
    if size > rows:
        raise CheckpointError(
            f"model {model!r}: the tokenizer has {size} tokens and the weights have {rows}; they do not belong together"
        )
