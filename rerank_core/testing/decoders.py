"""Tiny causal language models with random weights, and tokenizers built like those of the families they stand for."""

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
    """Write a causal language model and its tokenizer into a directory, and return the directory.

    Args:
        family: transformers' ``model_type``: ``llama``, ``gemma``, ``gemma2``, ``qwen2``, ``qwen3``, ``mistral`` ...
        tokenizer: which of `tiny_causal_tokenizer`, or a ``tokenizer.json`` to copy.
        std: of the normal distribution that weights are drawn from.
        shards: save the weights in several files with an index.
        config: of the model, beside what is set here; four query heads share two of keys.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from rerank_core.backends.torch.load_weights import quiet

    directory = Path(directory)
    size = write_tokenizer(directory, tokenizer)
    own = {
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
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **own))
    with quiet():
        model.save_pretrained(str(directory), max_shard_size="100KB" if shards else "1GB")
    return directory


def write_tokenizer(directory: Path, tokenizer: CausalTokenizer | str | PathLike[str]) -> int:
    """Write a tokenizer's files, and return how many rows of embeddings it needs."""
    from tokenizers import Tokenizer

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
    return int(max(Tokenizer.from_file(str(file)).get_vocab(with_added_tokens=True).values())) + 1


def tiny_causal_tokenizer(kind: CausalTokenizer) -> Tokenizer:
    """A byte-pair tokenizer with a few whole words, ``yes`` and ``no`` among them.

    ``bytes``: over bytes, as Qwen's and Llama 3's, with no token to start a text. ``sentencepiece``: a blank before
    every text, as Llama 2's and MiniCPM's, so that a newline alone is two tokens. ``gemma``: no such blank, and a
    newline is one.
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
        blank = "Ġ"
    else:
        letters = [
            "▁",
            "\n" if kind == "gemma" else "▁▁",
            *dict.fromkeys(_LETTERS),
            *(f"<0x{byte:02X}>" for byte in range(256)),
        ]
        words, blank = list(_WORDS), "▁"
    vocabulary = {token: id_ for id_, token in enumerate(dict.fromkeys([*specials, *letters]))}
    merges: list[tuple[str, str]] = []
    chains = [(word[:end], word[end]) for word in words for end in range(1, len(word))]
    for merge in dict.fromkeys([*chains, *((blank, word) for word in words)]):
        merges.append(merge)
        vocabulary.setdefault("".join(merge), len(vocabulary))
    if kind == "bytes":
        shape = Tokenizer(models.BPE(vocabulary, merges))
        shape.normalizer = normalizers.NFC()
        shape.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(_PIECES), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        shape.decoder = decoders.ByteLevel()
    else:
        shape = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
        replaced = normalizers.Replace(" ", "▁")
        shape.normalizer = replaced if kind == "gemma" else normalizers.Sequence([normalizers.Prepend("▁"), replaced])
        shape.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    shape.add_special_tokens([AddedToken(token, normalized=False) for token in specials])
    return shape


# Words with the blank before them, numbers by the digit, punctuation with the line breaks after it: as Qwen2 splits.
_PIECES = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
