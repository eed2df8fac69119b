"""Byte-level BPE from the metadata of a GGUF file: Qwen, Llama 3, GPT-2 and related vocabularies.

The metadata name the rule that splits a text into words; the rules are those of the models' own ``tokenizer.json``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rerank_core.backends.gguf.vocabulary import Vocabulary
from rerank_core.errors import CheckpointError, short

__all__ = ["byte_level"]

_PRE = "tokenizer.ggml.pre"
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_WORD = r"|[^\r\n\p{L}\p{N}]?\p{L}+|"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_START = r"[^\r\n\p{L}\p{N}]?"


@dataclass(frozen=True)
class _Rule:
    """How a vocabulary splits texts.

    Attributes:
        pattern: of a word; None for GPT-2's own.
        digits: each digit is a word.
        ignore_merges: a word that is in the vocabulary is one token, even if no merges lead to it.
        adds_bos: whether a text begins with the bos token where the file does not say so.
        has_bos: False where the file names a bos token that the model does not know (Qwen's ``<|endoftext|>``).
    """

    pattern: str | None = None
    digits: bool = False
    composed: bool = False
    ignore_merges: bool = False
    adds_bos: bool = False
    has_bos: bool = True


_LLAMA_3 = _Rule(_CONTRACTIONS + _WORD + r"\p{N}{1,3}" + _REST, ignore_merges=True, adds_bos=True)
_RULES = {
    "qwen2": _Rule(_CONTRACTIONS + _WORD + r"\p{N}" + _REST, composed=True, has_bos=False),
    "llama-bpe": _LLAMA_3,
    "llama3": _LLAMA_3,
    "llama-v3": _LLAMA_3,
    "gpt-2": _Rule(),
    "smollm": _Rule(digits=True),
    # Mistral Nemo.
    "tekken": _Rule(
        f"{_START}{_UPPER}*{_LOWER}+|{_START}{_UPPER}+{_LOWER}*"
        r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ignore_merges=True,
        adds_bos=True,
    ),
}


def byte_level(vocabulary: Vocabulary) -> tuple[dict[str, Any], bool, bool]:
    """The parts of a ``tokenizer.json``, whether a bos token is added by default, and whether there is one.

    Raises:
        CheckpointError: a rule that is not known, or merges that are none.
    """
    metadata = vocabulary.metadata
    name = metadata.of(_PRE, str, "default")
    if name not in _RULES:
        raise CheckpointError(
            f"{metadata.file}: {_PRE} is {short(name)}, a rule for splitting texts that is not read from GGUF; these "
            f"are: {', '.join(_RULES)}. Give the model's safetensors folder"
        )
    rule = _RULES[name]
    bytes_of_words = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": rule.pattern is None,
    }
    steps: list[dict[str, Any]] = [bytes_of_words]
    if rule.pattern is not None:
        pattern = {"Regex": rule.pattern}
        steps = [{"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}, bytes_of_words]
    elif rule.digits:
        steps = [{"type": "Digits", "individual_digits": True}, bytes_of_words]
    parts = {
        "normalizer": {"type": "NFC"} if rule.composed else None,
        "pre_tokenizer": steps[0] if len(steps) == 1 else {"type": "Sequence", "pretokenizers": steps},
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": rule.ignore_merges,
            "vocab": _ids(vocabulary),
            "merges": _merges(vocabulary),
        },
    }
    return parts, rule.adds_bos, rule.has_bos


def _ids(vocabulary: Vocabulary) -> dict[str, int]:
    ids: dict[str, int] = {}
    for id_, text in enumerate(vocabulary.tokens):
        ids.setdefault(text, id_)
    return ids


def _merges(vocabulary: Vocabulary) -> list[tuple[str, str]]:
    key = "tokenizer.ggml.merges"
    merges = []
    for merge in vocabulary.metadata.texts(key) or ():
        left, space, right = merge.partition(" ")
        if not left or not space or not right or " " in right:
            raise CheckpointError(f"{vocabulary.metadata.file}: {key} holds {short(merge)}, not two texts and a space")
        merges.append((left, right))
    if not merges:
        raise CheckpointError(f"{vocabulary.metadata.file}: {key} is empty or missing")
    return merges
