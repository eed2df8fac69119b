"""A LoRA adapter's directory scores as the adapted model does, under the name of any causal reranker."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import rerank_core
from helpers.plain import DOCUMENTS, QUERIES, PlainCausal, assert_close
from rerank_core import CheckpointError, Head, ModelSpec, Reranker, Template
from rerank_core.options import Options
from rerank_core.reranker import opened
from rerank_core.testing import tiny_causal_lm

SPEC = ModelSpec(
    name="adapted",
    template=Template(query="Q: {query}", between="\n", doc="D: {doc}"),
    head=Head.last_token("yes", "no"),
)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter with random weights beside its base, attention and feed-forward adapted."""
    peft = pytest.importorskip("peft", reason="peft is not installed")
    folder = tmp_path_factory.mktemp("adapter")
    plain = PlainCausal(tiny_causal_lm(folder / "base", "qwen2", tie_word_embeddings=False))
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    torch.manual_seed(1)
    peft.get_peft_model(plain.model, config).save_pretrained(str(folder / "lora"))
    file = folder / "lora" / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "base_model_name_or_path": str(folder / "base")}))
    return folder / "lora"


def load(directory: Path, **more: Any) -> Reranker:
    chosen = Options.of(SPEC, {"checkpoint": str(directory), "device": "cpu", **more})
    return opened(SPEC, chosen)


def test_scores_are_those_of_the_adapted_model(adapter: Path) -> None:
    import peft

    plain = PlainCausal(adapter.parent / "base")
    base = [plain.score([f"Q: {QUERIES[0]}", "\n", f"D: {doc}"], "yes", "no") for doc in DOCUMENTS]
    plain.model = peft.PeftModel.from_pretrained(plain.model, str(adapter)).eval()
    expected = [plain.score([f"Q: {QUERIES[0]}", "\n", f"D: {doc}"], "yes", "no") for doc in DOCUMENTS]
    assert max(abs(a - b) for a, b in zip(base, expected, strict=True)) > 0.1
    assert_close(expected, load(adapter).rerank(QUERIES[0], DOCUMENTS).scores())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"base_model_name_or_path": None}, "names no base"),
        ({"base_model_name_or_path": "/nowhere/at/all"}, "neither an existing directory"),
    ],
)
def test_a_base_that_is_not_there_is_named(change: dict[str, Any], said: str, adapter: Path, tmp_path: Path) -> None:
    given = json.loads((adapter / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps({**given, **change}))
    with pytest.raises(CheckpointError, match=said):
        load(tmp_path)


def test_a_pickled_adapter_is_refused(adapter: Path, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text((adapter / "adapter_config.json").read_text())
    (tmp_path / "adapter_model.bin").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"adapter_model\.safetensors"):
        load(tmp_path)


def test_named_models_take_adapters(adapter: Path) -> None:
    pytest.importorskip("rerank_bge", reason="rerank-bge is not installed")
    reranker = rerank_core.load("bge-llm-gemma", checkpoint=adapter, device="cpu", prompt="Is it?")
    assert len(reranker.rerank(QUERIES[0], DOCUMENTS)) == len(DOCUMENTS)
