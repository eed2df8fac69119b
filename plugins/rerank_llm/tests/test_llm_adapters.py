"""Adapters of chat models, where the plugin opens the folder itself: zero-shot and listwise."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import rerank_core

DOCS = ["Pandas eat bamboo for most of the day.", "a", "paris", "bear " * 10]
RANK, ALPHA = 4, 8


@pytest.fixture(scope="module")
def folders(chat: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An adapter of the chat model, alone in its folder, and the two merged by hand."""
    folder = tmp_path_factory.mktemp("adapted")
    lora, merged = folder / "lora", folder / "merged"
    shutil.copytree(chat, merged)
    lora.mkdir()
    generator = torch.Generator().manual_seed(2)
    weights, adapter = load_file(chat / "model.safetensors"), {}
    for key in [key for key in weights if key.endswith(("q_proj.weight", "down_proj.weight"))]:
        down = torch.randn(RANK, weights[key].shape[1], generator=generator) * 0.3
        up = torch.randn(weights[key].shape[0], RANK, generator=generator) * 0.3
        stem = f"base_model.model.{key.removesuffix('.weight')}"
        adapter |= {f"{stem}.lora_A.weight": down, f"{stem}.lora_B.weight": up}
        weights[key] = weights[key] + ALPHA / RANK * (up @ down)
    save_file(weights, merged / "model.safetensors", {"format": "pt"})
    save_file(adapter, lora / "adapter_model.safetensors")
    settings = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": ALPHA,
        "target_modules": ["q_proj", "down_proj"], "base_model_name_or_path": str(chat),
    }  # fmt: skip
    (lora / "adapter_config.json").write_text(json.dumps(settings))
    return lora, merged


def test_zero_shot_takes_an_adapter(folders: tuple[Path, Path], chat: Path) -> None:
    """The prompt is that of the base's chat template, and the scores those of the merged weights."""
    found, expected, base = (
        rerank_core.load(f"llm:{folder}", device="cpu").rerank("what does a panda eat?", DOCS).scores()
        for folder in (*folders, chat)
    )

    assert found == pytest.approx(expected, abs=1e-4, rel=1e-5)
    assert found != pytest.approx(base, abs=1e-2)


def test_listwise_takes_an_adapter(folders: tuple[Path, Path]) -> None:
    """The order that the logits of the first identifier give is that of the merged weights."""
    found, expected = (
        [
            hit.index
            for hit in rerank_core.load(
                "llm-listwise", checkpoint=folder, device="cpu", mode="first-token", window=4, stride=2
            ).rerank("what does a panda eat?", DOCS)
        ]
        for folder in folders
    )

    assert found == expected
