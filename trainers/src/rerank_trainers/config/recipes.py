"""What `rerank train reranker` and `rerank train llm` start from, under whatever the configuration says.

Starting points that the field uses (FlagEmbedding's and sentence-transformers' examples), not optima.
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
}


def merge_configs(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Two configurations as one: where both say something, ``over`` does; mappings are joined key by key.

    >>> merge_configs({"train": {"epochs": 2, "out": "run"}}, {"train": {"epochs": 3}})
    {'train': {'epochs': 3, 'out': 'run'}}
    """
    result = dict(under)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merge_configs(result[key], value) if both else value
    return result
