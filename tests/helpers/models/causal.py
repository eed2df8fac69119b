"""What tests of causal models share: specs, models loaded under them, and the pieces of a row."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from helpers.plain import PlainCausal
from rerank_core import Head, ModelOption, ModelSpec, Reranker, Template
from rerank_core.backends.torch import build
from rerank_core.backends.torch.attention import packing
from rerank_core.backends.torch.decoder.causal_lm import DecoderScorer
from rerank_core.backends.torch.decoder.layered_model import LayeredModel
from rerank_core.options import Options
from rerank_core.reranker import opened

TEMPLATE = Template(before="{bos}", query="A: {query}", between="\n", doc="B: {doc}", after=("\n", "{prompt}"))
PROMPT = "Given a passage, determine whether it contains the answer: 'Yes' or 'No'."
SPEC = ModelSpec(
    name="tiny-llm",
    template=TEMPLATE,
    head=Head.last_token("yes", "no"),
    max_length=1024,
    options=(ModelOption("prompt", "str", "the task", default=PROMPT, when="call"),),
)
YES_NO = ModelSpec(
    name="t",
    template=Template(query="A: {query}", between="\n", doc="B: {doc}", after="\nyes?"),
    head=Head.last_token("yes", "no"),
    max_length=512,
)


def load(directory: Path, spec: ModelSpec = SPEC, **given: Any) -> Reranker:
    """A model of a directory, as `rerank_core.load` opens it."""
    chosen = Options.of(spec, {"checkpoint": str(directory), "device": "cpu", **given})
    return opened(spec, chosen)


def scorer(reranker: Reranker) -> DecoderScorer:
    """Its scorer."""
    found = reranker.scorer
    assert isinstance(found, DecoderScorer)
    return found


def pieces(plain: PlainCausal, query: str, doc: str, prompt: str = PROMPT) -> list[Any]:
    """The pieces of a row under `SPEC`, each of which is tokenized alone."""
    bos = plain.tokenizer.bos_token_id
    return [[] if bos is None else [bos], "A: " + query, "\n", "B: " + doc, "\n", prompt]


def loaded(directory: Path, spec: ModelSpec = YES_NO) -> Reranker:
    """A model of a directory that its spec names, of any kind."""
    spec = replace(spec, checkpoint=str(directory))
    options = Options.of(spec, {"device": "cpu"})
    return Reranker(build(spec, options), spec, options)


def layered(directory: Path, layers: range, *, packed: bool = True) -> tuple[Any, Any]:
    """A causal model of a directory with random heads, and its tokenizer."""
    from transformers import AutoModel, AutoTokenizer

    auto: Any = AutoModel
    torch.manual_seed(0)
    module = LayeredModel(auto.from_pretrained(str(directory), dtype=torch.float32), layers)
    if packed:
        module.set_attn_implementation(packing.NAME)
    return module, AutoTokenizer.from_pretrained(str(directory))
