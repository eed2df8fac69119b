"""What is written beside weights so that a folder serves: the spec, and for adapters nothing that would mislead."""

from __future__ import annotations

from os import PathLike

from rerank_core import write_spec
from rerank_trainers.model import Model

__all__ = ["save_servable"]


def save_servable(model: Model, directory: str | PathLike[str]) -> None:
    """Write ``reranker.json`` into a folder of the model's weights and tokenizer."""
    write_spec(model.spec, directory, base=model.base)
