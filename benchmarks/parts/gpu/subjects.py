"""Models and texts for the GPU benchmark: random weights in real shapes, our scorers of them, queries and passages."""

from __future__ import annotations

import copy
import importlib.util
import random
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

import rerank_bge
import rerank_llm
from rerank_core import Head, ModelSpec, Template
from rerank_core.backends.tokenizer import TextTokenizer
from rerank_core.backends.torch.base import TorchScorer
from rerank_core.backends.torch.cross_encoder.classifier import ClassifierScorer
from rerank_core.backends.torch.decoder.causal_lm import DecoderScorer
from rerank_core.backends.torch.decoder.heads import live_label_head
from rerank_core.backends.torch.execution import Execution
from rerank_core.testing.checkpoints import tiny_tokenizer
from rerank_core.testing.decoders import tiny_causal_tokenizer

__all__ = [
    "QUICK",
    "SHAPES",
    "Shape",
    "Subject",
    "compiled",
    "generated",
    "linears",
    "passages",
    "subject",
    "with_two_threads",
]


@dataclass(frozen=True)
class Shape:
    """Architecture, sizes and tokenizer of a model with random weights.

    Attributes:
        family: transformers' ``model_type``.
        config: entries of the model's configuration.
        tokenizer: folder of the tokenizer in the data folder.
        tiny_tokenizer: kind of the small tokenizer that is used without data.
        spec: name of the model whose template is used; None for query-document pairs.
        start: the token that starts a text.
    """

    family: str
    config: dict[str, Any]
    tokenizer: str
    tiny_tokenizer: str
    spec: str | None = None
    start: str | None = None

    @property
    def causal(self) -> bool:
        return self.spec is not None


def _encoder(layers: int, width: int, heads: int) -> Shape:
    config = {
        "num_hidden_layers": layers, "hidden_size": width, "num_attention_heads": heads, "intermediate_size": 4 * width,
        "max_position_embeddings": 514, "type_vocab_size": 1, "pad_token_id": 1, "num_labels": 1,
        "initializer_range": 0.05,  # with 0.02, random scores are almost equal and would always agree
    }  # fmt: skip
    return Shape("xlm-roberta", config, "xlm-roberta", "xlm-roberta")


def _decoder(layers: int, width: int, heads: int, kv_heads: int, head_dim: int, inner: int) -> dict[str, Any]:
    return {
        "num_hidden_layers": layers, "hidden_size": width, "num_attention_heads": heads,
        "num_key_value_heads": kv_heads, "head_dim": head_dim, "intermediate_size": inner,
        "max_position_embeddings": 8192, "tie_word_embeddings": True, "initializer_range": 0.05,
        "pad_token_id": 0, "eos_token_id": 0, "bos_token_id": None,
    }  # fmt: skip


def _qwen3(*sizes: int) -> Shape:
    return Shape("qwen3", _decoder(*sizes), "qwen", "bytes", "qwen3-reranker-0.6b")


def _gemma(*sizes: int) -> Shape:
    return Shape("gemma", _decoder(*sizes), "llama2", "sentencepiece", "bge-llm-gemma", "<s>")


SHAPES = {
    "12 x 384": _encoder(12, 384, 12),
    "12 x 768": _encoder(12, 768, 12),
    "24 x 1024": _encoder(24, 1024, 16),
    "Qwen3 0.6B": _qwen3(28, 1024, 16, 8, 128, 3072),
    "Gemma 2B": _gemma(18, 2048, 8, 1, 256, 16384),
}
"""Cross-encoders, the largest of XLM-R large's shape, and the causal rerankers qwen3-reranker-0.6b and bge-llm-gemma.
Gemma uses Llama 2's tokenizer, so its output layer has 32,000 tokens instead of 256,000."""
QUICK = {
    "2 x 64": _encoder(2, 64, 2),
    "Qwen3 2 x 64": _qwen3(2, 64, 4, 2, 16, 96),
    "Gemma 2 x 64": _gemma(2, 64, 4, 1, 16, 128),
}
_PAIRS = ModelSpec(name="random", template=Template.pair(), head=Head.classifier(), max_length=512)


@dataclass(frozen=True)
class Subject:
    """A model on its device, as transformers' module and in our scorers.

    Attributes:
        plain: transformers' module.
        packed, padded: our scorers with and without packing; ``padded`` uses ``plain``, ``packed`` a copy.
        tokenizer: the tokenizer, unchanged.
        labels: ids of the label tokens, positive first; None for a classifier.
    """

    shape: Shape
    plain: Any
    packed: TorchScorer
    padded: TorchScorer
    tokenizer: Tokenizer
    labels: tuple[int, ...] | None


def subject(shape: Shape, device: torch.device, dtype: str, data: Path | None) -> Subject:
    """A model of a shape with random weights, seed 0."""
    raw = _tokenizer(shape, data)
    text = TextTokenizer(Tokenizer.from_str(raw.to_str()), bos=shape.start)
    size = max(raw.get_vocab(with_added_tokens=True).values()) + 1
    config = AutoConfig.for_model(shape.family, vocab_size=size, **shape.config)
    torch.manual_seed(0)
    auto: Any = AutoModelForCausalLM if shape.causal else AutoModelForSequenceClassification
    with device:  # a CPU takes half a minute for a billion random numbers
        plain = auto.from_config(config, dtype=getattr(torch, dtype)).eval()
    copied = copy.deepcopy(plain)
    if shape.spec is None:
        packed = ClassifierScorer(copied, text, _PAIRS, execution=Execution())
        padded = ClassifierScorer(plain, text, _PAIRS, execution=Execution(pack=False))
        return Subject(shape, plain, packed, padded, raw, None)
    spec = _spec(shape.spec)
    head = spec.head
    assert head is not None
    heads = [live_label_head(module, head, text, spec.name) for module in (copied, plain)]
    labels = tuple(int(row) for row in heads[0].rows)
    packed = DecoderScorer(copied.base_model, text, spec, score_head=heads[0], execution=Execution())
    padded = DecoderScorer(plain.base_model, text, spec, score_head=heads[1], execution=Execution(pack=False))
    return Subject(shape, plain, packed, padded, raw, labels)


def with_two_threads(model: Subject) -> Subject:
    """The same weights, for which two threads prepare batches."""
    packed = copy.copy(model.packed)
    packed.execution = replace(packed.execution, threads=2)
    return replace(model, packed=packed)


def compiled(model: Subject) -> Subject | None:
    """The same weights of a causal model, in layers that torch.compile translates; None where it cannot, such as
    without a C compiler. The message is printed."""
    packed: Any = copy.copy(model.packed)
    packed.runner, packed._compiled = copy.copy(packed.runner), True
    try:
        packed.probe(packed=True)
    except Exception as error:  # noqa: BLE001 -- a compiler may fail in any way
        print(f"not compiled: {type(error).__name__}: {str(error).strip().splitlines()[:1]}", file=sys.stderr)
        return None
    return replace(model, packed=packed)


def _spec(name: str) -> ModelSpec:
    """A plugin's spec, also where the plugin is not installed."""
    specs: list[ModelSpec] = []
    for plugin in (rerank_bge, rerank_llm):
        plugin.rerank_register_models(specs.append)
    return next(spec for spec in specs if spec.name == name)


def _tokenizer(shape: Shape, data: Path | None) -> Tokenizer:
    if data is not None:
        return Tokenizer.from_file(str(data / "tokenizers" / shape.tokenizer / "tokenizer.json"))
    kind: Any = shape.tiny_tokenizer
    return tiny_causal_tokenizer(kind) if shape.causal else tiny_tokenizer(kind)


def linears(module: Any) -> list[torch.nn.Linear]:
    """The linear modules of the layers; the head is left out, since it computes one token per row."""
    base = module.base_model
    layers = base.encoder if hasattr(base, "encoder") else base.layers
    return [part for part in layers.modules() if isinstance(part, torch.nn.Linear)]


def passages(data: Path) -> list[tuple[str, list[str]]]:
    """Queries of TREC DL 2019 with their passages."""
    spec = importlib.util.spec_from_file_location("readers", data / "readers.py")
    assert spec is not None
    assert spec.loader is not None
    readers = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(readers)
    return [(query, [text for _, text, _ in hits]) for _, query, hits in readers.trecdl(19)]


def generated(queries: int, documents: int, seed: int = 0) -> list[tuple[str, list[str]]]:
    """Random texts with log-normal lengths, as passages have; the same in every run."""
    draw = random.Random(seed)
    words = ["panda", "bear", "bamboo", "the", "of", "a", "in", "mountains", "eats", "fish", "query", "document"]

    def text(length: int) -> str:
        return " ".join(draw.choice(words) for _ in range(length))

    def document() -> str:
        return text(min(400, max(1, round(draw.lognormvariate(4.0, 0.6)))))

    return [(text(7), [document() for _ in range(documents)]) for _ in range(queries)]
