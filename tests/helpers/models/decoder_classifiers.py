"""Tiny sequence classifiers made from decoders, and their scores in plain transformers, one row at a time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, processors
from transformers import AutoConfig, AutoModelForSequenceClassification

from helpers.plain import Plain
from rerank_core.backends.torch.load_weights import quiet
from rerank_core.testing.decoders import write_tokenizer


def tiny_decoder_classifier(
    directory: Path,
    family: str = "qwen3",
    *,
    tokenizer: str | Path = "bytes",
    pair: str | None = None,
    labels: int = 1,
    padding: int | None = None,
    **config: Any,
) -> Path:
    """Write a sequence classifier with random weights of 0.3, and its tokenizer.

    Args:
        pair: the tokenizer's pair template, such as ``<s> $A <s> $B``; by default none.
        padding: the id of the padding token in config.json, which has none by default.
    """
    size = write_tokenizer(directory, tokenizer)
    if pair is not None:
        file = directory / "tokenizer.json"
        raw = Tokenizer.from_file(str(file))
        marks = [mark for mark in dict.fromkeys(pair.split()) if "$" not in mark]
        raw.post_processor = processors.TemplateProcessing(
            single=pair.split("$B")[0].rsplit("$A")[0] + "$A",
            pair=pair,
            special_tokens=[(mark, raw.token_to_id(mark)) for mark in marks],
        )
        raw.save(str(file))
    settings = {
        "vocab_size": size, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "head_dim": 8,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 1024, "initializer_range": 0.3,
        "pad_token_id": padding, "bos_token_id": None, "eos_token_id": None, "num_labels": labels, **config,
    }  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        model = AutoModelForSequenceClassification.from_config(AutoConfig.for_model(family, **settings))
    with quiet():
        model.save_pretrained(str(directory))
    # Some families write a default.
    file = directory / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "pad_token_id": padding}), encoding="utf-8")
    return directory


class PlainClassifier(Plain):
    """A decoder with a classifier, one row at a time."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        auto: Any = AutoModelForSequenceClassification
        self.model = auto.from_pretrained(str(directory), dtype=torch.float32).eval()
        assert self.model.config._attn_implementation in ("sdpa", "eager")

    def pair(self, query: str, document: str) -> list[int]:
        """The tokenizer's own encoding of a pair, as a batch of one: alone, it takes an empty text for no text."""
        ids: list[int] = self.tokenizer([query], [document])["input_ids"][0]
        return ids

    @torch.inference_mode()
    def score(self, ids: Sequence[int]) -> float:
        """The logit of a row."""
        return float(self.model(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0, 0])
