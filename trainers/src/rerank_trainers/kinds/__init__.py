"""The kinds of model that can be trained, one file each."""

from __future__ import annotations

from types import MappingProxyType

from rerank_trainers.config.schema import ModelConfig
from rerank_trainers.kinds.colbert import ColBERT
from rerank_trainers.kinds.cross_encoder import CrossEncoder
from rerank_trainers.kinds.embedding import Embedding
from rerank_trainers.kinds.layerwise import LayerwiseModel
from rerank_trainers.kinds.llm import LLM
from rerank_trainers.model.kind import Kinds, ModelKind

__all__ = ["KINDS", "kind_of"]

KINDS: Kinds = MappingProxyType(
    {kind.name: kind for kind in (CrossEncoder(), LLM(), LayerwiseModel(), Embedding(), ColBERT())}
)
"""The kinds by their names."""


def kind_of(config: ModelConfig) -> ModelKind:
    """The kind of ``model.kind``; a cross-encoder by default."""
    return KINDS[config.kind or CrossEncoder.name]
