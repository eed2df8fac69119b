"""SentencePiece models from the metadata of a GGUF file: BPE (Llama 2, Mistral, Gemma) and Unigram (XLM-R)."""

from __future__ import annotations

import base64
from typing import Any

from rerank_core.backends.gguf.vocabulary import BYTE, NORMAL, USER_DEFINED, Vocabulary
from rerank_core.errors import CheckpointError

__all__ = ["sentencepiece_bpe", "unigram"]

_SPACE = "\u2581"  # SentencePiece's mark of a space
_BYTES = 256


def sentencepiece_bpe(vocabulary: Vocabulary) -> dict[str, Any]:
    """The parts of a ``tokenizer.json`` of a BPE model, whose merges follow from the scores of its pieces.

    Raises:
        CheckpointError: scores that do not belong to the tokens, or neither an unknown token nor one for each byte.
    """
    prefix = vocabulary.switch("add_space_prefix", True)
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
    has_bytes = vocabulary.types.count(BYTE) == _BYTES
    unknown = vocabulary.text("unk")
    if not has_bytes and unknown is None:
        raise CheckpointError(
            f"{vocabulary.metadata.file}: the tokenizer has neither an unknown token nor {_BYTES} byte tokens"
        )
    back = [{"type": "Replace", "pattern": {"String": _SPACE}, "content": " "}, {"type": "ByteFallback"}]
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if prefix else []
    ids, merges = _pieces(vocabulary)
    return {
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": _SPACE}, replace]}
        if prefix
        else replace,
        "pre_tokenizer": None,
        "decoder": {"type": "Sequence", "decoders": [*back, {"type": "Fuse"}, *strip]},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": unknown,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": has_bytes,
            "ignore_merges": False,
            "vocab": ids,
            "merges": merges,
        },
    }


def _pieces(vocabulary: Vocabulary) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Ids of pieces, and merges: each pair of pieces that joined are a piece, in the order of the joined one's score.
    User-defined pieces come first, since SentencePiece finds them before it merges."""
    ids: dict[str, int] = {}
    ranked: list[tuple[float, int, int, str, str]] = []
    made: dict[str, float] = {}
    for id_, (text, kind, score) in enumerate(
        zip(vocabulary.tokens, vocabulary.types, vocabulary.scores(), strict=True)
    ):
        # llama.cpp's converter writes the spaces of user-defined pieces as spaces.
        piece = text.replace(" ", _SPACE) if kind == USER_DEFINED else text
        if ids.setdefault(piece, id_) == id_ and kind in (NORMAL, USER_DEFINED):
            made[piece] = float("inf") if kind == USER_DEFINED else score
    for piece, score in made.items():
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in made and right in made:
                ranked.append((-score, -len(left), -len(right), left, right))
    ranked.sort(key=lambda entry: entry[:3])
    return ids, [(left, right) for *_, left, right in ranked]


def unigram(vocabulary: Vocabulary) -> dict[str, Any]:
    """The parts of a ``tokenizer.json`` of a Unigram model, with its precompiled normalizer.

    Raises:
        CheckpointError: scores that do not belong to the tokens, no unknown token, or a normalizer that is none.
    """
    metadata = vocabulary.metadata
    key = "tokenizer.ggml.precompiled_charsmap"
    codes: list[Any] = metadata.of(key, list, [])
    if not all(type(code) is int and -128 <= code < _BYTES for code in codes):
        raise CheckpointError(f"{metadata.file}: {key} must hold bytes")
    if "unk" not in vocabulary.special:
        raise CheckpointError(f"{metadata.file}: the tokenizer has no unknown token, which a Unigram model needs")
    charsmap = base64.b64encode(bytes(code % _BYTES for code in codes)).decode("ascii")
    scheme = "always" if vocabulary.switch("add_space_prefix", True) else "never"
    metaspace = {"type": "Metaspace", "replacement": _SPACE, "prepend_scheme": scheme, "split": True}
    return {
        "normalizer": {"type": "Precompiled", "precompiled_charsmap": charsmap} if codes else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, metaspace]},
        "decoder": metaspace,
        "model": {
            "type": "Unigram",
            "unk_id": vocabulary.special["unk"],
            "vocab": list(zip(vocabulary.tokens, vocabulary.scores(), strict=True)),
            "byte_fallback": False,
        },
    }
