"""The vocabulary in the metadata of a GGUF file, checked: tokens, their types and scores, and which are special."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from rerank_core.errors import CheckpointError, short
from rerank_core.spec.untrusted_files import JsonObject

__all__ = ["BYTE", "NORMAL", "USER_DEFINED", "Vocabulary", "added_tokens", "template_processing", "vocabulary_of"]

NORMAL, _UNKNOWN, _CONTROL, USER_DEFINED, _UNUSED, BYTE = 1, 2, 3, 4, 5, 6
_PREFIX = "tokenizer.ggml."
# Characters of a token. Vocabularies have runs of up to 256 spaces; the work of finding merges grows with the square.
_LONGEST = 1024
# Keys of special tokens; llama.cpp spells one of them wrong.
_SPECIAL = {
    "bos": "bos_token_id", "eos": "eos_token_id", "unk": "unknown_token_id", "pad": "padding_token_id",
    "sep": "seperator_token_id", "cls": "cls_token_id", "mask": "mask_token_id",
}  # fmt: skip


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of a tokenizer.

    Attributes:
        tokens, types: text and type of each id; types are numbers of SentencePiece.
        special: ids by name (``bos``, ``eos``, ``unk``, ``pad``, ``sep``, ``cls``, ``mask``); absent ones are left out.
        metadata: where the rest is read from.
    """

    tokens: tuple[str, ...]
    types: tuple[int, ...]
    special: dict[str, int]
    metadata: JsonObject

    def text(self, name: str) -> str | None:
        """The text of a special token; None where there is none."""
        return self.tokens[self.special[name]] if name in self.special else None

    def scores(self) -> list[float]:
        """The score of each token.

        Raises:
            CheckpointError: a score for not every token, or one that is not finite.
        """
        scores: list[Any] = self.metadata.of(f"{_PREFIX}scores", list, [])
        if len(scores) != len(self.tokens) or not all(
            isinstance(score, (int, float)) and math.isfinite(score) for score in scores
        ):
            raise CheckpointError(
                f"{self.metadata.file}: tokenizer.ggml.scores must hold a finite number for each of the "
                f"{len(self.tokens)} tokens"
            )
        return scores

    def switch(self, name: str, default: bool) -> bool:
        """A setting such as ``add_bos_token``."""
        return self.metadata.of(_PREFIX + name, bool, default)


def vocabulary_of(metadata: JsonObject) -> Vocabulary:
    """The vocabulary in the metadata of a file.

    Raises:
        CheckpointError: no tokens, tokens and types that do not belong together, or a special token that is none.
    """
    tokens = metadata.texts(f"{_PREFIX}tokens") or ()
    if not tokens:
        raise CheckpointError(f"{metadata.file} has no tokenizer: tokenizer.ggml.tokens is empty or missing")
    longest = max(tokens, key=len)
    if len(longest) > _LONGEST:
        raise CheckpointError(
            f"{metadata.file}: the token {short(longest)} has {len(longest)} characters, and {_LONGEST} are the most"
        )
    types: list[Any] = metadata.of(f"{_PREFIX}token_type", list, [])
    if types and (len(types) != len(tokens) or not all(type(kind) is int for kind in types)):
        raise CheckpointError(
            f"{metadata.file}: tokenizer.ggml.token_type must hold an integer for each of the {len(tokens)} tokens"
        )
    special = {}
    for name, key in _SPECIAL.items():
        id_ = metadata.of(_PREFIX + key, int, -1)
        if _PREFIX + key in metadata and not 0 <= id_ < len(tokens):
            raise metadata.wrong(_PREFIX + key, f"there are {len(tokens)} tokens")
        if id_ >= 0:
            special[name] = id_
    return Vocabulary(tokens, tuple(types) or (NORMAL,) * len(tokens), special, metadata)


def added_tokens(vocabulary: Vocabulary) -> list[dict[str, Any]]:
    """The entries ``added_tokens`` of a ``tokenizer.json``: tokens that are found in a text before it is split.

    Runs of spaces are left out: the model's own merges make them.
    """
    named = set(vocabulary.special.values())
    entries = []
    for id_, (text, kind) in enumerate(zip(vocabulary.tokens, vocabulary.types, strict=True)):
        special = kind in (_UNKNOWN, _CONTROL) or id_ in named
        if text and (special or (kind == USER_DEFINED and text.strip(" \u2581"))):
            entries.append(
                {
                    "id": id_,
                    "content": text,
                    "single_word": False,
                    "lstrip": False,
                    "rstrip": False,
                    "normalized": False,
                    "special": special,
                }
            )
    return entries


def template_processing(
    vocabulary: Vocabulary, before: str | None, after: str | None, *, between: tuple[str, ...] = (), second: int = 0
) -> dict[str, Any] | None:
    """The entry ``post_processor`` of a ``tokenizer.json``; None where no token is added.

    Args:
        before, after: names of special tokens around a text.
        between: names of the special tokens between the texts of a pair; by default those around each.
        second: the token type of the second text.
    """

    def token(name: str, kind: int) -> dict[str, Any]:
        return {"SpecialToken": {"id": vocabulary.text(name), "type_id": kind}}

    start = [token(before, 0)] if before else []
    end = [[token(after, kind)] if after else [] for kind in (0, second)]
    middle = [token(name, 0) for name in between] if between else [*end[0], *start]
    texts = [{"Sequence": {"id": name, "type_id": kind}} for name, kind in (("A", 0), ("B", second))]
    used = {vocabulary.special[name] for name in (before, after, *between) if name}
    if not used:
        return None
    return {
        "type": "TemplateProcessing",
        "single": [*start, texts[0], *end[0]],
        "pair": [*start, texts[0], *middle, texts[1], *end[1]],
        "special_tokens": {
            vocabulary.tokens[id_]: {
                "id": vocabulary.tokens[id_], "ids": [id_], "tokens": [vocabulary.tokens[id_]],
            }
            for id_ in sorted(used)
        },
    }  # fmt: skip
