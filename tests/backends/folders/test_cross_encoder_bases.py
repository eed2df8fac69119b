"""What a CrossEncoder folder says holds for adapters of it and under a model's name, or loading fails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification

import rerank_core
from helpers.hubs.hub_cache import snapshot
from helpers.plain import assert_close
from rerank_core import CheckpointError
from rerank_core.testing import tiny_cross_encoder

QUERY, DOCUMENTS = "what do pandas eat?", ["pandas eat bamboo", "Paris is a city.", ""]
NAME = "sentence_transformers.base.modules.transformer.Transformer"


def cross_encoder(folder: Path, prompt: str = "find: ", **settings: Any) -> Path:
    """A tiny CrossEncoder with a default prompt."""
    tiny_cross_encoder(folder, "bert")
    said = {"model_type": "CrossEncoder", "prompts": {"task": prompt}, "default_prompt_name": "task", **settings}
    say(folder, said)
    return folder


def say(folder: Path, settings: dict[str, Any]) -> None:
    """Write the settings of a CrossEncoder of one module."""
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings), encoding="utf-8")
    (folder / "modules.json").write_text(json.dumps([{"idx": 0, "path": "", "type": NAME}]), encoding="utf-8")


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """An adapter of a CrossEncoder, both in local folders."""
    peft = pytest.importorskip("peft", reason="peft is not installed")
    base = cross_encoder(tmp_path / "base")
    torch.manual_seed(1)
    model = AutoModelForSequenceClassification.from_pretrained(base)
    config = peft.LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["query"], init_lora_weights=False)
    peft.get_peft_model(model, config).save_pretrained(str(tmp_path / "lora"))
    return rebase(tmp_path / "lora", str(base))


def rebase(adapter: Path, base: str) -> Path:
    file = adapter / "adapter_config.json"
    settings = {**json.loads(file.read_text("utf-8")), "base_model_name_or_path": base}
    file.write_text(json.dumps(settings), encoding="utf-8")
    return adapter


def scores(folder: Path, **options: Any) -> list[float]:
    return rerank_core.load(folder, device="cpu", **options).score([(QUERY, document) for document in DOCUMENTS])


def test_an_adapter_follows_its_base(adapter: Path) -> None:
    """The base's prompt and activation hold for the adapted model."""
    loaded = rerank_core.load(adapter, device="cpu")

    assert loaded.rerank(QUERY, DOCUMENTS).activation == "sigmoid"
    prompted = loaded.score([("find: " + QUERY, document) for document in DOCUMENTS], instruction="")
    assert_close(prompted, scores(adapter))
    assert max(abs(a - b) for a, b in zip(scores(adapter), scores(adapter, instruction=""), strict=True)) > 1e-3


def test_an_adapters_own_settings_come_first(adapter: Path) -> None:
    """sentence-transformers writes them beside the adapter."""
    say(adapter, {"model_type": "CrossEncoder", "prompts": {}, "activation_fn": "torch.nn.modules.linear.Identity"})

    assert rerank_core.load(adapter, device="cpu").rerank(QUERY, DOCUMENTS).activation == "none"
    assert_close(scores(adapter, instruction=""), scores(adapter))


def test_an_adapter_of_a_base_on_the_hub(adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its files are read only after the layout is chosen, so a base that contradicts it is refused."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    cross_encoder(snapshot(tmp_path / "cache", "acme/base", "a" * 40))

    with pytest.raises(
        CheckpointError, match=r"adapts 'acme/base'.*default prompt is 'find: '.*base_model_name_or_path"
    ):
        rerank_core.load(rebase(adapter, "acme/base"), device="cpu", offline=True)


def test_a_name_is_not_given_to_other_layouts(tmp_path: Path) -> None:
    """bge-reranker-base scores plain pairs; a CrossEncoder with a prompt does not."""
    folder = cross_encoder(tmp_path / "prompted")
    with pytest.raises(CheckpointError, match=r"contradicts 'bge-reranker-base'.*default prompt is 'find: '"):
        rerank_core.load("bge-reranker-base", checkpoint=folder, device="cpu")
    (folder / "sentence_bert_config.json").write_text(
        json.dumps({"modality_config": {"message": {"method": "forward", "method_output_name": "logits"}}}), "utf-8"
    )
    with pytest.raises(CheckpointError, match="it writes pairs with its chat template"):
        rerank_core.load("bge-reranker-base", checkpoint=folder, device="cpu")

    plain = cross_encoder(tmp_path / "plain", "")
    assert_close(scores(plain), rerank_core.load("bge-reranker-base", checkpoint=plain, device="cpu").score(
        [(QUERY, document) for document in DOCUMENTS]
    ))  # fmt: skip
