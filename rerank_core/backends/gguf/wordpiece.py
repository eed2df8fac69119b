"""WordPiece from the metadata of a GGUF file: BERT."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rerank_core.backends.gguf.vocabulary import NORMAL, Vocabulary
from rerank_core.errors import CheckpointError

__all__ = ["wordpiece"]

_START = "\u2581"  # before pieces that begin a word; llama.cpp's converter removes the ## of the others
_TOKENS = {"cls": "[CLS]", "sep": "[SEP]", "pad": "[PAD]", "unk": "[UNK]", "mask": "[MASK]"}


def wordpiece(vocabulary: Vocabulary) -> tuple[dict[str, Any], Vocabulary]:
    """The parts of a ``tokenizer.json``, and the vocabulary with BERT's own texts of the pieces.

    The file does not say whether texts are lowercased; they are where no word of letters has an
    uppercase one.

    Raises:
        CheckpointError: no token for the beginning, the end, or an unknown word.
    """
    tokens = tuple(
        text if kind != NORMAL else text[1:] if text.startswith(_START) else f"##{text}"
        for text, kind in zip(vocabulary.tokens, vocabulary.types, strict=True)
    )
    special = dict(vocabulary.special)
    if "cls" not in special and "bos" in special:
        special["cls"] = special["bos"]
    for name, text in _TOKENS.items():
        if name not in special and text in tokens:
            special[name] = tokens.index(text)
    if missing := [name for name in ("cls", "sep", "unk") if name not in special]:
        raise CheckpointError(
            f"{vocabulary.metadata.file}: the tokenizer has no token for {missing[0]}, which BERT needs"
        )
    ids: dict[str, int] = {}
    for id_, text in enumerate(tokens):
        ids.setdefault(text, id_)
    plain = (text.removeprefix("##") for text, kind in zip(tokens, vocabulary.types, strict=True) if kind == NORMAL)
    parts = {
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": not any(word != word.lower() for word in plain if word.isalpha()),
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": tokens[special["unk"]],
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": ids,
        },
    }
    return parts, replace(vocabulary, tokens=tokens, special=special)
