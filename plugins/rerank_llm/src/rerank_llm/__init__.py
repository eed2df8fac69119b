"""LLM rerankers: Qwen3-Reranker, mxbai-rerank-v2, any chat model zero-shot, and listwise ranking."""

from collections.abc import Callable

from rerank_core import ModelSpec, hookimpl
from rerank_llm.listwise_specs import LISTWISE


@hookimpl
def rerank_register_models(register: Callable[[ModelSpec], None]) -> None:
    for spec in LISTWISE:
        register(spec)
