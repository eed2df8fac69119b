"""LLM rerankers: Qwen3-Reranker, mxbai, zerank, ctxl, any chat model without training, and listwise ranking.

Also the embedding model Qwen3-Embedding.
"""

from collections.abc import Callable

from rerank_core import ModelSpec, hookimpl
from rerank_core.spec import directory_of
from rerank_llm.embedders import EMBEDDERS
from rerank_llm.listwise_specs import LISTWISE
from rerank_llm.pointwise_specs import POINTWISE, zero_shot_spec


@hookimpl
def rerank_register_models(register: Callable[[ModelSpec], None]) -> None:
    for spec in (*POINTWISE, *LISTWISE, *EMBEDDERS):
        register(spec)


@hookimpl
def rerank_open_model(source: str) -> ModelSpec:
    """``llm:<hub id, directory or GGUF file>``: any chat model as a yes/no reranker."""
    directory = directory_of(source)
    return zero_shot_spec(source if directory is None else str(directory.absolute()))
