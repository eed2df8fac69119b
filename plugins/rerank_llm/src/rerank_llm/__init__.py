"""LLM rerankers: Qwen3-Reranker, mxbai-rerank-v2, any chat model zero-shot, and listwise ranking."""

from collections.abc import Callable
from pathlib import Path

from rerank_core import ModelSpec, hookimpl
from rerank_llm.listwise_specs import LISTWISE
from rerank_llm.pointwise_specs import POINTWISE, zero_shot_spec


@hookimpl
def rerank_register_models(register: Callable[[ModelSpec], None]) -> None:
    for spec in (*POINTWISE, *LISTWISE):
        register(spec)


@hookimpl
def rerank_open_model(source: str) -> ModelSpec:
    """``llm:<hub id or directory>``: any chat model, asked whether a document is relevant."""
    return zero_shot_spec(str(Path(source).resolve()) if Path(source).is_dir() else source)
