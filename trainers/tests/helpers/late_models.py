"""Small late-interaction models of every kind, and the layouts of other libraries that can express them."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

from helpers.separate_folders import WIDTH, add_tokens, encoder, layer

import rerank_core
from rerank_core import Head, ModelSpec, Template, TokenVectors, write_spec
from rerank_trainers.publish.folders.dense import write_projection

DENSE = {"projection": ("1_Dense",)}
FILLED = {"expand_to": 24, "expand_with": "[MASK]"}
MARKED = Template.each(query_marker="[unused0]", doc_marker="[unused1]")
# The model, and the layouts that can express it.
LATE_MODELS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "plain": ({}, ("sentence-transformers", "pylate")),
    "mini": ({"reduce": "mean", "vectors": {"projection": ()}}, ("sentence-transformers", "pylate")),
    "stanford": (
        {"template": MARKED, "vectors": {**DENSE, **FILLED, "skip": tuple(string.punctuation)}},
        ("sentence-transformers", "pylate"),
    ),
    "attended": (
        {"template": MARKED, "vectors": {**DENSE, **FILLED, "attend_expansion": True}},
        ("sentence-transformers", "pylate"),
    ),
    "prompts": (
        {"template": Template.each("ask: {query}", "text: {doc}"), "max_query_length": 16, "family": "modernbert"},
        ("sentence-transformers", "pylate"),
    ),
    "both sides": ({"vectors": {**DENSE, "skip": ("?", "."), "skip_in_queries": True}}, ("sentence-transformers",)),
    "products": ({"vectors": {**DENSE, "normalize": False}}, ("sentence-transformers",)),
    "m3": (
        {"reduce": "mean", "family": "xlm-roberta", "vectors": {**DENSE, "skip_first": True}},
        ("sentence-transformers", "bge-m3"),
    ),
    "two masks": (
        {"template": MARKED, "vectors": {**DENSE, **FILLED, "skip": (".", ","), "skip_first": True}},
        ("sentence-transformers",),
    ),
    "decoder": ({"family": "qwen3"}, ("sentence-transformers", "pylate")),
}


def late_model(folder: Path, name: str, width: int = 16) -> ModelSpec:
    """Write the model's folder, without the files of other libraries."""
    settings, _ = LATE_MODELS[name]
    given = {"reduce": "sum", "family": "bert", "vectors": DENSE, "template": Template.each(), **settings}
    family, vectors = given.pop("family"), TokenVectors(**given.pop("vectors"))
    layers = [layer(WIDTH, width, bias=name != "plain")] if vectors.projection else []
    encoder(folder, family)
    if family == "bert":
        add_tokens(folder, "[unused0]", "[unused1]")
    write_projection(folder, layers, vectors.projection)
    head = Head.maxsim(given.pop("reduce"), vectors)
    write_spec(ModelSpec("tiny", head=head, max_length=96, **given), folder)
    with rerank_core.load(folder, device="cpu") as reranker:
        return reranker.spec
