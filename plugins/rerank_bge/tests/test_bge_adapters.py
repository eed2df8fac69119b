"""Adapters of the layerwise and the lightweight model: the base's configuration and heads, or heads of their own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from bge_tensors import LIGHTWEIGHT, MINICPM, write
from safetensors.torch import load_file, save_file

import rerank_core
from rerank_core import CheckpointError
from rerank_core.testing.decoders import write_tokenizer

SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "max_position_embeddings": 1024}
KINDS: dict[str, tuple[dict[str, Any], Any]] = {
    "bge-llm-layerwise": ({**MINICPM, **SMALL, "num_key_value_heads": 4, "num_hidden_layers": 9}, "sentencepiece"),
    "bge-llm-lightweight": (
        {
            **LIGHTWEIGHT, **SMALL, "head_dim": 8, "num_key_value_heads": 2, "num_hidden_layers": 9,
            "query_pre_attn_scalar": 8, "sliding_window": 32,
        },
        "gemma",
    ),
}  # fmt: skip
QUERY, DOCS = "what does a panda eat?", ["Pandas eat bamboo for most of the day.", "a", "paris " * 20]
RANK, ALPHA = 4, 8


@pytest.fixture(scope="module", params=list(KINDS))
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A model's name, and a folder with its ``base``, a ``lora`` over it and the two ``merged`` by hand."""
    name = request.param
    config, tokenizer = KINDS[name]
    folder = tmp_path_factory.mktemp(name)
    base, lora, merged = (folder / part for part in ("base", "lora", "merged"))
    base.mkdir()
    write(base, {**config, "vocab_size": write_tokenizer(base, tokenizer)})
    shutil.copytree(base, merged)
    lora.mkdir()
    generator = torch.Generator().manual_seed(5)
    weights, adapter = load_file(base / "model.safetensors"), {}
    for key, weight in weights.items():
        if key.endswith(("q_proj.weight", "down_proj.weight")):
            down = torch.randn(RANK, weight.shape[1], generator=generator) * 0.3
            up = torch.randn(weight.shape[0], RANK, generator=generator) * 0.3
            stem = f"base_model.model.{key.removesuffix('.weight')}"
            adapter |= {f"{stem}.lora_A.weight": down, f"{stem}.lora_B.weight": up}
            weights[key] = weight + ALPHA / RANK * (up @ down)
        if key.startswith("lm_head."):
            weights[key] = torch.randn(weight.shape, generator=generator) * 0.3
            adapter[f"base_model.model.{key}"] = weights[key]
    save_file(weights, merged / "model.safetensors", {"format": "pt"})
    save_file(adapter, lora / "adapter_model.safetensors")
    settings = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": ALPHA,
        "target_modules": ["q_proj", "down_proj"], "modules_to_save": ["linear_head"],
        "base_model_name_or_path": str(base),
    }  # fmt: skip
    (lora / "adapter_config.json").write_text(json.dumps(settings))
    return name, folder


def scores(name: str, folder: Path, **more: Any) -> list[float]:
    options = {"device": "cpu", "layer": 9, **more}
    return rerank_core.load(name, checkpoint=folder, **options).rerank(QUERY, DOCS).scores()


def test_an_adapter_scores_as_the_weights_it_was_merged_into(made: tuple[str, Path]) -> None:
    """At the deepest layer and at another, with heads that were trained beside the adapter (f09)."""
    name, folder = made
    for layer in (8, 9):
        expected = scores(name, folder / "merged", layer=layer)
        found = scores(name, folder / "lora", layer=layer)

        assert found == pytest.approx(expected, abs=1e-4, rel=1e-5)
        assert found != pytest.approx(scores(name, folder / "base", layer=layer), abs=1e-2)


def test_heads_that_the_adapter_lacks_are_the_bases(made: tuple[str, Path], tmp_path: Path) -> None:
    """An adapter without heads keeps those of its base, and where neither has one it is named: never a random one."""
    name, folder = made
    lora = Path(shutil.copytree(folder / "lora", tmp_path / "lora"))
    base = Path(shutil.copytree(folder / "base", tmp_path / "base"))
    kept = load_file(lora / "adapter_model.safetensors")
    save_file({key: own for key, own in kept.items() if "lora_" in key}, lora / "adapter_model.safetensors")
    file = lora / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "modules_to_save": None}))
    mixed = Path(shutil.copytree(folder / "merged", tmp_path / "mixed"))
    heads = {key: own for key, own in load_file(base / "model.safetensors").items() if key.startswith("lm_head.")}
    save_file({**load_file(mixed / "model.safetensors"), **heads}, mixed / "model.safetensors", {"format": "pt"})
    assert scores(name, lora) == pytest.approx(scores(name, mixed), abs=1e-4, rel=1e-5)

    without = {
        key: own for key, own in load_file(base / "model.safetensors").items() if not key.startswith("lm_head.1")
    }
    save_file(without, base / "model.safetensors", {"format": "pt"})
    file.write_text(json.dumps({**json.loads(file.read_text()), "base_model_name_or_path": str(base)}))
    with pytest.raises(CheckpointError, match=r"lm_head\.1\.linear_head\.weight"):
        scores(name, lora)
