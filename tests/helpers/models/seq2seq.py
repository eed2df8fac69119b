"""What tests of encoder-decoders share: monoT5's spec, a model loaded under it, and its prompt as one string."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rerank_core import Head, ModelSpec, Reranker, Template
from rerank_core.backends.torch.encoder_decoder.scorer import EncoderDecoderScorer
from rerank_core.options import Options
from rerank_core.reranker import opened

SPEC = ModelSpec(
    name="tiny-t5",
    template=Template(query="Query: {query}", doc="Document: {doc}", after=("Relevant:", "</s>")),
    head=Head.last_token("true", "false"),
    max_length=512,
)


def load(directory: Path, spec: ModelSpec = SPEC, **given: Any) -> Reranker:
    """A model of a directory, as `rerank_core.load` opens it."""
    chosen = Options.of(spec, {"checkpoint": str(directory), "device": "cpu", **given})
    return opened(spec, chosen)


def scorer(reranker: Reranker) -> EncoderDecoderScorer:
    """Its scorer."""
    found = reranker.scorer
    assert isinstance(found, EncoderDecoderScorer)
    return found


def prompt(query: str, doc: str) -> str:
    """monoT5's prompt, which its authors tokenize as one string."""
    return f"Query: {query} Document: {doc} Relevant:"
