"""Tiny checkpoints of the families that are read from GGUF, each written once a run."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rerank_core.testing import tiny_causal_lm, tiny_cross_encoder

LLAMA_3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64, "rope_theta": 10_000.0,
}  # fmt: skip
# Tokenizer, and settings of the model.
FAMILIES: dict[str, tuple[Any, dict[str, Any]]] = {
    "llama": ("sentencepiece", {"tie_word_embeddings": False}),
    "llama-3": ("bytes", {"rope_parameters": LLAMA_3}),
    "mistral": ("sentencepiece", {"sliding_window": None}),
    "qwen2": ("bytes", {}),
    "qwen3": ("bytes", {"tie_word_embeddings": True, "head_dim": 128}),
    "gemma": ("gemma", {}),
    "gemma2": ("gemma", {"query_pre_attn_scalar": 256, "head_dim": 256, "sliding_window": 16}),
    "gemma3_text": ("gemma", {"query_pre_attn_scalar": 256, "head_dim": 256, "sliding_window": 16, "layers": 7}),
}


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The checkpoint of a family, not to be changed."""
    from helpers.gguf.tokenizers import with_all_merges

    root = tmp_path_factory.mktemp("families")

    @functools.cache
    def made(name: str) -> Path:
        if name in ("bert", "xlm-roberta"):
            return tiny_cross_encoder(root / name, name)  # type: ignore[arg-type]
        tokenizer, settings = FAMILIES[name]
        folder = tiny_causal_lm(root / name, name.removesuffix("-3"), tokenizer=tokenizer, **settings)
        return folder if tokenizer == "bytes" else with_all_merges(folder)

    return made
