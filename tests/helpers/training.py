"""What tests of training share: live modules, a batch for them, and the gradient of its scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from rerank_core import Head, ModelSpec, Template
from rerank_core.backends.torch import scorer_of
from rerank_core.backends.torch.attention import packing
from rerank_core.scorer import Batch

QUERIES = ("what is a panda?", "熊猫吃什么")
DOCS = (
    "a bear of central China",
    "竹子",
    "x",
    "Bamboo makes up most of what a panda eats, birds and eggs too.",
    "竹子",
)
YES_NO = ModelSpec(
    name="tiny",
    template=Template(before="{bos}", query="A: {query}", between="\n", doc="B: {doc}", after="\nyes or no"),
    head=Head.last_token("a", "b"),
)


def live(directory: Path, spec: ModelSpec, **settings: Any) -> tuple[Any, Any]:
    """A transformers module with our attention, in float32, and its scorer."""
    import transformers

    assert spec.head is not None
    kinds = {"last_token": "ForCausalLM", "classifier": "ForSequenceClassification"}
    config = transformers.AutoConfig.from_pretrained(directory, **settings)
    auto = getattr(transformers, f"AutoModel{kinds.get(spec.head.kind, '')}")
    module = auto.from_pretrained(directory, config=config, attn_implementation=packing.NAME)
    return module, scorer_of(module, transformers.AutoTokenizer.from_pretrained(directory), spec)


def batch_of(scorer: Any) -> Batch:
    """Two queries with all documents, as the pipeline lays them out."""
    asked = scorer.tokenize(QUERIES, "query")
    docs = scorer.tokenize(DOCS, "doc")
    rows = [
        scorer.row(query, doc, 0, len(doc), (place, number, 0))
        for place, query in enumerate(asked)
        for number, doc in enumerate(docs)
    ]
    shared = {place: scorer.query_row(query) for place, query in enumerate(asked)}
    return Batch({place: row for place, row in shared.items() if row is not None}, rows)


def scores_of(module: Any, scorer: Any, batch: Batch, *, packed: bool) -> torch.Tensor:
    """Scores ``[rows]`` with their gradient, as a trainer computes them."""
    scores: torch.Tensor = scorer.parts_from(module(**scorer.forward_inputs(batch, packed=packed)), batch)["scores"]
    return scores


def gradients(module: Any, scorer: Any, *, packed: bool) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Scores, and the gradient of something that weighs each of them otherwise."""
    module.zero_grad()
    scores = scores_of(module, scorer, batch_of(scorer), packed=packed)
    (scores * torch.linspace(-1, 2, len(scores))).sum().backward()
    return scores.detach(), {name: one.grad.clone() for name, one in module.named_parameters() if one.grad is not None}


def apart(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """The largest distance of two gradients, relative to their size."""
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).norm() / (1 + other[name].norm())) for name in one)
