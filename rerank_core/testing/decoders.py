"""Writes tiny causal language models: random weights, and tokenizers with the components of real families' ones."""

from __future__ import annotations

import json
import shutil
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["CausalTokenizer", "tiny_causal_lm", "tiny_causal_tokenizer"]

CausalTokenizer: TypeAlias = Literal["bytes", "sentencepiece", "gemma"]

_WORDS = (
    "yes", "no", "Yes", "No", "query", "document", "passage", "panda", "pandas", "bear", "bamboo", "what", "is", "the",
    "a", "an", "of", "in", "and", "it", "to", "for", "Given", "Predict", "determine", "whether", "contains", "answer",
    "是", "否", "熊猫", "竹子", "什么",
)  # fmt: skip
_LETTERS = "".join(map(chr, range(33, 127))) + "大熊猫是什么动物吃竹子否中国法首都巴黎。，？"
_SPECIALS: dict[CausalTokenizer, tuple[str, ...]] = {
    "bytes": ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    "sentencepiece": ("<unk>", "<s>", "</s>"),
    "gemma": ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"),
}
_SETTINGS: dict[CausalTokenizer, dict[str, str | None]] = {
    "bytes": {"bos_token": None, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
    "sentencepiece": {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"},
    "gemma": {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"},
}


def tiny_causal_lm(
    directory: str | PathLike[str],
    family: str = "qwen2",
    *,
    tokenizer: CausalTokenizer | str | PathLike[str] = "bytes",
    layers: int = 3,
    hidden: int = 32,
    seed: int = 0,
    std: float = 0.3,
    shards: bool = False,
    **config: Any,
) -> Path:
    """Write a causal language model and its tokenizer.

    The model has 4 attention heads with 2 key-value heads, and 1024 positions.

    Args:
        directory: where to write; created if needed.
        family: transformers' ``model_type``: ``llama``, ``gemma``, ``gemma2``, ``qwen2``, ``qwen3``, ``mistral`` ...
        tokenizer: a kind of `tiny_causal_tokenizer`, or a ``tokenizer.json`` or a directory with one to copy.
        layers: number of transformer layers.
        hidden: size of the hidden states.
        seed: seed of the random weights.
        std: standard deviation of the random weights.
        shards: save the weights in several files with an index.
        config: further settings of the model's configuration, such as ``tie_word_embeddings=False``.

    Returns:
        the directory.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from rerank_core.backends.torch.load_weights import quiet

    directory = Path(directory)
    size = write_tokenizer(directory, tokenizer)
    settings = {
        "vocab_size": size,
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": hidden // 4,
        "max_position_embeddings": 1024,
        "initializer_range": std,
        "pad_token_id": 0,
        "bos_token_id": None,
        "eos_token_id": None,
        **config,
    }
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **settings))
    with quiet():
        model.save_pretrained(str(directory), max_shard_size="100KB" if shards else "1GB")
    return directory


def write_tokenizer(directory: Path, tokenizer: CausalTokenizer | str | PathLike[str]) -> int:
    """Write the files of a tokenizer.

    Returns:
        the size of its vocabulary, added tokens included.
    """
    from tokenizers import Tokenizer

    from rerank_core.backends.tokenizer import largest_id

    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "tokenizer.json"
    settings: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 1024}
    if tokenizer in _SPECIALS:
        kind: Any = tokenizer
        tiny_causal_tokenizer(kind).save(str(file))
        settings.update(_SETTINGS[kind])
    else:
        source = Path(tokenizer)
        shutil.copyfile(source / "tokenizer.json" if source.is_dir() else source, file)
    (directory / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    return largest_id(Tokenizer.from_file(str(file))) + 1


def tiny_causal_tokenizer(kind: CausalTokenizer) -> Tokenizer:
    """A byte-pair tokenizer with about thirty whole words, among them ``yes`` and ``no``.

    ``bytes``: byte level, as in Qwen and Llama 3, without a beginning-of-sequence token. ``sentencepiece``: puts a
    space before every text, as in Llama 2 and MiniCPM, so that a single newline becomes two tokens. ``gemma``: without
    that space, so that a single newline is one token.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    specials = _SPECIALS[kind]
    if kind == "bytes":
        letters = sorted(pre_tokenizers.ByteLevel.alphabet())
        words = [
            piece
            for word in _WORDS
            for piece, _ in pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(word)
        ]
        space = "Ġ"
    else:
        letters = [
            "▁",
            "\n" if kind == "gemma" else "▁▁",
            *dict.fromkeys(_LETTERS),
            *(f"<0x{byte:02X}>" for byte in range(256)),
        ]
        words, space = list(_WORDS), "▁"
    vocabulary = {token: id_ for id_, token in enumerate(dict.fromkeys([*specials, *letters]))}
    merges: list[tuple[str, str]] = []
    character_merges = [(word[:end], word[end]) for word in words for end in range(1, len(word))]
    for merge in dict.fromkeys([*character_merges, *((space, word) for word in words)]):
        merges.append(merge)
        vocabulary.setdefault("".join(merge), len(vocabulary))
    if kind == "bytes":
        tokenizer = Tokenizer(models.BPE(vocabulary, merges))
        tokenizer.normalizer = normalizers.NFC()
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(_PIECES), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        tokenizer.decoder = decoders.ByteLevel()
    else:
        tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
        replaced = normalizers.Replace(" ", "▁")
        tokenizer.normalizer = (
            replaced if kind == "gemma" else normalizers.Sequence([normalizers.Prepend("▁"), replaced])
        )
        tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in specials])
    return tokenizer


# Splits as Qwen2: a word with the space before it, each digit, punctuation with the line breaks after it.
_PIECES = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
