"""Cross-encoders: a sequence classifier with one label (Nogueira & Cho, *Passage Re-ranking with BERT*, 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rerank_core import Head, ModelSpec, Template
from rerank_trainers.config.schema import ModelConfig
from rerank_trainers.model.kind import Loaded, ModelKind
from rerank_trainers.model.load_weights import load_classifier
from rerank_trainers.model.source import Source, start_head, tokenizer_of

__all__ = ["CrossEncoder"]

_ACTIVATIONS = {"none": "torch.nn.modules.linear.Identity", "sigmoid": "torch.nn.modules.activation.Sigmoid"}


class CrossEncoder(ModelKind):
    """A classifier that reads query and document in one row."""

    name = "cross-encoder"
    heads = ("classifier",)
    wrap = "pair"
    lora_task = "SEQ_CLS"
    calibrates = True
    tag = "cross-encoder"
    sentence = "A cross-encoder: a sequence classifier with one label"

    def template(self, config: ModelConfig, like: ModelSpec | None) -> Template:
        """The followed model's template, else the tokenizer's layout of a text pair."""
        return Template.pair() if like is None else like.template

    def head(self, config: ModelConfig, like: ModelSpec | None) -> Head:
        """One label."""
        return Head.classifier()

    def load(self, source: Source, config: ModelConfig, spec: ModelSpec) -> Loaded:
        """See `load_classifier`."""
        tokenizer = tokenizer_of(source.directory)
        module, fresh = load_classifier(source.directory, config, tokenizer, start_head(source))
        return Loaded(module, tokenizer, spec, fresh)

    def trained_in_full(self, module: Any, fresh: Sequence[str]) -> list[str]:
        """Layers that start at random, such as a pooler, without the two that peft trains in full by itself."""
        return [
            name
            for name in super().trained_in_full(module, fresh)
            if not {"classifier", "score"} & set(name.split("."))
        ]

    def extra_config(self, spec: ModelSpec) -> dict[str, Any]:
        """The activation; without this key sentence-transformers applies a sigmoid to every model with one label."""
        return {"sentence_transformers": {"activation_fn": _ACTIVATIONS[spec.activation]}}
