"""Fine-tunes rerankers and publishes folders that rerank-core loads with equal scores; importing this is cheap."""

from __future__ import annotations

from collections.abc import Callable

from rerank_core import hookimpl


@hookimpl
def rerank_register_commands(register: Callable[[str, str, str], None]) -> None:
    register("train", "rerank_trainers.cli:app", "Fine-tune a reranker, check its data, publish it.")
