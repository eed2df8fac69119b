"""What to do with an encoder-decoder's folder, whose files do not say how it scores."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rerank_core.spec.untrusted_files import optional_json

__all__ = ["encoder_decoder_advice"]

_SETTINGS = "tokenizer_config.json"


def encoder_decoder_advice(directory: Path, config: Mapping[str, Any], max_length: int) -> str | None:
    """How to load an encoder-decoder (T5, T5Gemma) as a reranker; None for another kind of model.

    Its prompt and the tokens that mean relevant were chosen when it was fine-tuned, and no file records them. A T5 that
    summarises has the same files, so they are not guessed.

    Args:
        config: the settings in the folder's ``config.json``.

    Raises:
        CheckpointError: the tokenizer's settings cannot be read.
    """
    architectures = [str(name) for name in config.get("architectures") or []]
    generates = any(name.endswith("ForConditionalGeneration") for name in architectures)
    if not generates or config.get("is_encoder_decoder") is not True:
        return None
    settings: dict[str, Any] = {
        "schema_version": 1,
        "name": "my-reranker",
        "max_length": max_length,
        "template": {
            "query": "Query: {query}",
            "doc": "Document: {doc}",
            "after": ["Relevant:", _last_token(directory)],
        },
        "head": {"kind": "last_token", "positive": "true", "negative": "false"},
    }
    lines = [f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in settings.items()]
    text = "{\n" + ",\n".join(lines) + "\n}"
    return (
        f"{str(directory)!r} is an encoder-decoder ({architectures[0]}), and its files do not say which of its tokens "
        "mean relevant. If it is a monoT5, load('monot5-base', checkpoint=<this directory>); if it is a RankT5, "
        "load('rankt5-base', checkpoint=<this directory>) (pip install rerank-t5). If it is another reranker, put its "
        f"prompt and labels into a reranker.json in the folder. monoT5's is\n{text}"
    )


def _last_token(directory: Path) -> str:
    """The token at the end of a text, by the tokenizer's settings; T5's where they do not name one."""
    token = optional_json(directory / _SETTINGS).get("eos_token")
    content = token.get("content") if isinstance(token, Mapping) else token
    return content if isinstance(content, str) and content else "</s>"
