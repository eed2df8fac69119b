"""What to write beside a plain encoder so that it loads as a reranker."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rerank_core.spec.untrusted_files import optional_json

__all__ = ["reranker_json_of_encoder"]


def reranker_json_of_encoder(directory: Path, max_length: int) -> str:
    """The text of a ``reranker.json`` with which an encoder that no ``modules.json`` describes ranks by the cosine of
    the mean of its hidden states, with the prompts that sentence-transformers saved in the folder, if any.

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
        "head": {"kind": "cosine", "pooling": "mean"},
    }
    lines = [f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in settings.items()]
    return "{\n" + ",\n".join(lines) + "\n}"
