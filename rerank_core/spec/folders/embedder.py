"""What to write beside an embedding model so that it loads as a reranker."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from rerank_core.spec.untrusted_files import optional_json, read_json_list

__all__ = ["reranker_json_of_embedder"]

# Settings of sentence-transformers' Pooling, and the pooling that each one names here.
_POOLINGS = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "last",
}


def reranker_json_of_embedder(directory: Path, max_length: int) -> str:
    """The text of a ``reranker.json`` with which an embedding model or plain encoder ranks by the cosine of its pooled
    hidden states, with the pooling and the prompts that sentence-transformers saved in the folder.

    Raises:
        CheckpointError: a settings file of the folder cannot be read.
    """
    prompts = optional_json(directory / "config_sentence_transformers.json").inner("prompts")
    query = prompts.of("query", str, "")
    doc = next((text for key in ("document", "passage", "corpus") if (text := prompts.of(key, str, ""))), "")
    settings: dict[str, Any] = {
        "schema_version": 1,
        "name": "my-reranker",
        "max_length": max_length,
        "template": {"wrap": "each", "query": f"{query}{{query}}", "doc": f"{doc}{{doc}}"},
        "head": {"kind": "cosine", "pooling": _pooling(directory)},
    }
    lines = [f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in settings.items()]
    return "{\n" + ",\n".join(lines) + "\n}"


def _pooling(directory: Path) -> str:
    """The pooling that the folder's modules name; mean where they name none that is known."""
    if not os.path.lexists(directory / "modules.json"):
        return "mean"
    for module in read_json_list(directory / "modules.json"):
        path = module.of("path", str, "")
        if module.of("type", str, "").endswith(".Pooling") and ".." not in path and not path.startswith("/"):
            settings = optional_json(directory / path / "config.json")
            return next((name for key, name in _POOLINGS.items() if settings.get(key) is True), "mean")
    return "mean"
