"""Models to publish, trained a little, and what their live weights say."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import MethodType
from typing import Any

import torch
from accelerate.utils import convert_outputs_to_fp32

from rerank_core import Reranker
from rerank_core.testing import tiny_causal_lm, tiny_cross_encoder
from rerank_trainers.config.schema import LoraOptions, ModelConfig
from rerank_trainers.kinds import kind_of
from rerank_trainers.model.trained_model import Model, open_model

PAIRS = [
    ("what is a panda?", "The giant panda is a bear native to the mountains of central China."),
    ("what is a panda?", "The capital of France is Paris."),
    ("大熊猫吃什么？", "熊猫每天吃很多竹子，也吃鱼、鸟和蛋。"),
    ("what do pandas eat?", "bamboo " * 300),
]
OWN = {"before": "<|im_start|>", "query": "query: {query}", "between": "\n", "doc": "document: {doc}", "after": "\n"}


def trained(module: Any) -> None:
    """Move every trainable weight, as training would, and leave the module in training mode."""
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in module.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn_like(weight) * 0.05)
    module.train()


def open_models(place: Path) -> dict[str, Model]:
    """A classifier trained whole, one with adapters and a fresh head, a language model with adapters, and one that
    follows an installed plugin's template."""
    headless = tiny_cross_encoder(place / "headless", "bert", head=False, std=0.2)
    lora = LoraOptions(r=4)
    llm = ModelConfig(
        kind="llm", checkpoint=str(tiny_causal_lm(place / "qwen2", std=0.15)), max_length=128, lora=lora, template=OWN,
        answers=("yes", "no"),
    )  # fmt: skip
    configs = {
        "whole": ModelConfig(checkpoint=str(tiny_cross_encoder(place / "xlmr", std=0.2)), max_query_length=24),
        "adapters": ModelConfig(checkpoint=str(headless), max_length=128, lora=lora),
        "llm": llm,
        "like": replace(
            llm, checkpoint=str(tiny_causal_lm(place / "qwen3", "qwen3", std=0.15)), max_length=256,
            like="qwen3-reranker-0.6b", template=None, answers=(),
        ),
    }  # fmt: skip
    made = {name: open_model(config, kind_of(config), name=f"Tiny {name}") for name, config in configs.items()}
    for model in made.values():
        trained(model.module)
    return made


@contextlib.contextmanager
def autocast(module: Any) -> Iterator[None]:
    """What accelerate does to a module under mixed precision."""
    module._original_forward = module.forward
    module.forward = MethodType(torch.autocast("cpu", dtype=torch.bfloat16)(module.forward.__func__), module)
    module.forward = MethodType(convert_outputs_to_fp32(module.forward.__func__), module)
    try:
        yield
    finally:
        del module.forward, module._original_forward


def live(model: Model, pairs: list[tuple[str, str]] = PAIRS) -> list[float]:
    return Reranker.from_scorer(model.scorer, model.spec).score(pairs)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Other libraries tell of loading as they like."""
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)
