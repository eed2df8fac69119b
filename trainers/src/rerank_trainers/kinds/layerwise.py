"""Layerwise models: a causal model with a score at every layer (bge-reranker-v2-minicpm-layerwise)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rerank_core import Head, InputError, ModelSpec
from rerank_core.backends.tokenizer import TextTokenizer
from rerank_trainers.config.schema import ModelConfig
from rerank_trainers.kinds.llm import check_answers, template_and_answers
from rerank_trainers.model.kind import Loaded, ModelKind
from rerank_trainers.model.layer_heads import load_layerwise
from rerank_trainers.model.source import Source, tokenizer_of
from rerank_trainers.objectives.base import Objective
from rerank_trainers.objectives.layerwise import Layerwise

__all__ = ["LayerwiseModel"]


class LayerwiseModel(ModelKind):
    """A causal model with a head at each layer; it may follow the template of a model that answers with a word."""

    name = "layerwise"
    heads = ("layers", "last_token")
    keeps_code = False
    tag = "llm-reranker"
    sentence = "A causal language model with a score at every layer"

    def head(self, config: ModelConfig, like: ModelSpec | None) -> Head:
        """A head at every layer, until the weights show the layers that have one."""
        check_answers(config)
        return Head.layers(1)

    def load(self, source: Source, config: ModelConfig, spec: ModelSpec) -> Loaded:
        """See `load_layerwise`."""
        if config.layout != "packed":
            raise InputError(f"model.layout is {config.layout!r}; the layers of a layerwise model run on packed rows")
        tokenizer = tokenizer_of(source.directory)
        module, head, fresh = load_layerwise(source, config, TextTokenizer.from_transformers(tokenizer))
        return Loaded(module, tokenizer, replace(spec, head=head), fresh)

    def trained_in_full(self, module: Any, fresh: Sequence[str]) -> list[str]:
        """The heads."""
        return ["linear_head"]

    def objective(self, objective: Objective, config: ModelConfig) -> Objective:
        """The objective at every layer, with self-distillation."""
        return Layerwise(objective, config.self_distill)

    def settings(self, head: Head, spec: ModelSpec) -> dict[str, Any]:
        """Template, answers and the first layer with a head."""
        shown = template_and_answers(head, spec)
        return {**shown, "first_layer": head.first} if head.first else shown
