"""What tests of late interaction share: a tiny model in a folder, texts, and a count of what the model reads."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from helpers.plain import DOCUMENTS, LONG, PARAGRAPH
from rerank_core import Head, ModelSpec, Reranker, Template, write_spec
from rerank_core.testing.checkpoints import tiny_encoder

SPEC = ModelSpec(name="tiny", template=Template.each(), head=Head.maxsim("sum"), max_length=64)
SURROGATE = "half of a \ud83d panda"
TEXTS = (*DOCUMENTS, PARAGRAPH * 4, LONG, SURROGATE)
NEW = ("a text that is new", "and one more, of which there was none")


def saved(directory: Path, spec: ModelSpec = SPEC, **more: Any) -> Path:
    """A tiny encoder in a folder that says how it is read."""
    made = tiny_encoder(directory, **more)
    write_spec(spec, made)
    return made


def shards(folder: Path) -> list[Path]:
    """The shards that an index in a folder counts as its own."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return [folder / shard["file"] for shard in manifest["shards"]]


@contextmanager
def reading(reranker: Reranker, before: Callable[[int], None] = lambda passes: None) -> Iterator[list[int]]:
    """Tokens of each pass of the encoder; ``before`` each pass is called with the number of passes so far."""
    seen: list[int] = []

    def watch(module: Any, given: Any, named: dict[str, torch.Tensor]) -> None:
        before(len(seen))
        seen.append(int((named["input_ids"] != 0).sum()))  # 0 is [PAD]

    scorer: Any = reranker.scorer
    handle = scorer.module.register_forward_pre_hook(watch, with_kwargs=True)
    try:
        yield seen
    finally:
        handle.remove()
