"""The ``tokenizer.json`` and ``tokenizer_config.json`` of a GGUF file."""

from __future__ import annotations

from typing import Any

from rerank_core.backends.gguf.byte_level import byte_level
from rerank_core.backends.gguf.sentencepiece import sentencepiece_bpe, unigram
from rerank_core.backends.gguf.vocabulary import Vocabulary, added_tokens, template_processing, vocabulary_of
from rerank_core.backends.gguf.wordpiece import wordpiece
from rerank_core.errors import CheckpointError, short
from rerank_core.spec.gguf.header import GgufHeader

__all__ = ["tokenizer_files"]

_MODEL = "tokenizer.ggml.model"
_CHAT = "tokenizer.chat_template"


def tokenizer_files(header: GgufHeader) -> tuple[dict[str, Any], dict[str, Any]]:
    """What ``tokenizer.json`` and ``tokenizer_config.json`` of the checkpoint hold.

    Raises:
        CheckpointError: no tokenizer, or one of another kind.
    """
    metadata = header.metadata
    vocabulary = vocabulary_of(metadata)
    kind = metadata.of(_MODEL, str, "")
    has_bos = True
    if kind == "gpt2":
        parts, adds_bos, has_bos = byte_level(vocabulary)
        parts["post_processor"] = _around(vocabulary, adds_bos)
    elif kind == "llama":
        parts = sentencepiece_bpe(vocabulary)
        parts["post_processor"] = _around(vocabulary, True)
    elif kind == "bert":
        parts, vocabulary = wordpiece(vocabulary)
        parts["post_processor"] = template_processing(vocabulary, "cls", "sep", between=("sep",), second=1)
    elif kind == "t5":
        parts = unigram(vocabulary)
        if not {"bos", "eos"} <= vocabulary.special.keys():
            raise CheckpointError(f"{header.file}: the tokenizer has no bos or eos token, which XLM-R needs")
        parts["post_processor"] = template_processing(vocabulary, "bos", "eos", between=("eos", "eos"))
    else:
        raise CheckpointError(
            f"{header.file}: {_MODEL} is {short(kind)}, a tokenizer that is not read from GGUF; these are: gpt2, "
            "llama, bert, t5. Give the model's safetensors folder"
        )
    whole = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added_tokens(vocabulary), **parts}
    return whole, _settings(vocabulary, header, has_bos)


def _around(vocabulary: Vocabulary, adds_bos: bool) -> dict[str, Any] | None:
    """The post-processor of a decoder: the bos token before and the eos token after a text, as the file says."""
    bos = "bos" in vocabulary.special and vocabulary.switch("add_bos_token", adds_bos)
    eos = "eos" in vocabulary.special and vocabulary.switch("add_eos_token", False)
    return template_processing(vocabulary, "bos" if bos else None, "eos" if eos else None)


def _settings(vocabulary: Vocabulary, header: GgufHeader, has_bos: bool) -> dict[str, Any]:
    metadata = header.metadata
    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_max_length": metadata.of(f"{header.architecture}.context_length", int, 512),
    }
    for name in ("bos", "eos", "unk", "pad", "sep", "cls", "mask"):
        settings[f"{name}_token"] = vocabulary.text(name) if has_bos or name != "bos" else None
    if template := metadata.of(_CHAT, str, ""):
        settings["chat_template"] = template
    return settings
