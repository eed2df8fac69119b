"""Default settings of each command that trains; the user's configuration overrides them.

The values are those of FlagEmbedding's, sentence-transformers' and RAG-Retrieval's examples: starting points, not
tuned optima.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["RECIPES", "merge_configs"]

RECIPES: Mapping[str, Mapping[str, Any]] = {
    "reranker": {
        "model": {"max_length": 512},
        "objective": "bce",
        "train": {"learning_rate": 2e-5, "batch_size": 16},
    },
    "llm": {
        "model": {"kind": "llm", "max_length": 1024, "lora": {"r": 32, "alpha": 64}},
        "objective": "softmax_ce",
        "train": {"learning_rate": 1e-4, "batch_size": 16},
    },
    "embedding": {
        "model": {"kind": "embedding", "max_length": 512},
        "objective": "infonce",
        "train": {"learning_rate": 2e-5, "batch_size": 64},
    },
    "colbert": {
        "model": {"kind": "colbert", "max_length": 256},
        "objective": "infonce",
        "train": {"learning_rate": 1e-5, "batch_size": 32},
    },
}


def merge_configs(base: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two configurations, nested mappings key by key; ``override`` wins where both set a value.

    >>> merge_configs({"train": {"epochs": 2, "out": "run"}}, {"train": {"epochs": 3}})
    {'train': {'epochs': 3, 'out': 'run'}}
    """
    merged = dict(base)
    for key, value in override.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge_configs(merged[key], value) if both else value
    return merged
