"""What the tests of LLM rerankers share: tiny causal models, and ways to look into a step."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import rerank_core
from rerank_core import UnknownModelError
from rerank_core.testing import tiny_causal_lm
from rerank_trainers.loop.dataset import Item
from rerank_trainers.loop.prepare import Run

Prepared = Callable[..., Run]
Make = Callable[..., Path]

# A layerwise model's settings, and what it is asked.
PIECES = {"before": "{bos}", "query": "A: {query}", "between": "\n", "doc": "B: {doc}", "after": ["\n", "Yes or No?"]}
OWN = (f"model.template={json.dumps(PIECES)}", "model.first_layer=2")
LAYERWISE = ("model.kind=layerwise", "data.group_size=0")
QUERY, DOCS = "what does a panda eat?", ("Pandas eat bamboo.", "a", "", "大熊猫吃竹子。", "what is the answer? " * 3)
ADAM = ("train.arguments.optim=adamw_torch", "train.learning_rate=1e-2", "train.max_steps=4")
TOKENIZERS: dict[str, Any] = {
    "qwen2": "bytes", "qwen3": "bytes", "llama": "sentencepiece", "granite": "sentencepiece", "gemma": "gemma",
    "gemma2": "gemma",
}  # fmt: skip
# What architectures do to their logits and hidden states, so that leaving it out shows.
PECULIAR: dict[str, dict[str, Any]] = {
    "gemma2": {"final_logit_softcapping": 5.0, "query_pre_attn_scalar": 8},
    "granite": {"logits_scaling": 2.0, "embedding_multiplier": 3.0, "residual_multiplier": 0.7},
}


def maker(folder: Callable[[str], Path], layers: int) -> Make:
    """Tiny causal models by family, each made once."""
    ready: dict[str, Path] = {}

    def of(family: str) -> Path:
        if family not in ready:
            more = PECULIAR.get(family, {})
            ready[family] = tiny_causal_lm(folder(family), family, tokenizer=TOKENIZERS[family], layers=layers, **more)
        return ready[family]

    return of


def like(name: str) -> str:
    """The setting that follows an installed model; skips where its plugin is not."""
    try:
        rerank_core.plugins.registry.default().named(name)
    except UnknownModelError:
        pytest.skip(f"the plugin of {name} is not installed")
    return f"model.like={name}"


def passes(run: Run) -> Any:
    """All rows as one step, each query with the same weight."""
    groups: Any = run.trainer.train_dataset
    return run.trainer.passes([groups[Item(row, 0, 1 / len(groups))] for row in range(len(groups))])


def gradients(run: Run) -> dict[str, torch.Tensor]:
    """Of one step over all rows."""
    run.trainer.training_step(run.model.module, passes(run))
    return {name: part.grad.clone() for name, part in run.model.module.named_parameters() if part.grad is not None}


def losses(run: Run) -> list[float]:
    """That were logged."""
    return [entry["loss"] for entry in run.trainer.state.log_history if "loss" in entry]


def near(expected: Sequence[float], found: Sequence[float]) -> None:
    """Equal to 1e-5."""
    assert list(found) == pytest.approx(list(expected), abs=1e-5, rel=1e-5)


def alike(expected: dict[str, torch.Tensor], found: dict[str, torch.Tensor]) -> None:
    """The same gradients, to 1e-5 of the largest."""
    assert found.keys() == expected.keys()
    largest = max(float(one.abs().max()) for one in expected.values())
    for name, gradient in expected.items():
        assert float((found[name] - gradient).abs().max()) <= 1e-5 * max(1.0, largest), name


def by_layer(reranker: Any, **more: Any) -> dict[str, list[float]]:
    """Scores in the caller's order, of each layer; the one that ranks first."""
    hits = sorted(reranker.rerank(QUERY, DOCS, activation="none", **more), key=lambda hit: hit.index)
    return {name: [hit.scores[name] for hit in hits] for name in hits[0].scores}
