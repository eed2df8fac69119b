"""A LoRA adapter of a sequence classifier made from a decoder, loaded by its path, scores as the adapted model does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import rerank_core
from helpers.models.decoder_classifiers import PlainClassifier, tiny_decoder_classifier
from helpers.plain import DOCUMENTS, QUERIES, assert_close
from rerank_core.backends.torch.decoder.classifier_scorer import DecoderClassifier
from rerank_core.testing import tiny_causal_lm


@pytest.mark.parametrize("whole", [True, False])
def test_the_score_head_comes_from_the_adapter(whole: bool, tmp_path: Path) -> None:
    """Its base is a classifier, or a language model that has no such head."""
    peft = pytest.importorskip("peft", reason="peft is not installed")
    if whole:
        tiny_decoder_classifier(tmp_path / "base", "qwen3")
    else:
        tiny_causal_lm(tmp_path / "base", "qwen3")
    from transformers import AutoModelForSequenceClassification

    auto: Any = AutoModelForSequenceClassification
    module = auto.from_pretrained(str(tmp_path / "base"), num_labels=1, dtype=torch.float32)
    config = peft.LoraConfig(
        r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"], init_lora_weights=False, task_type="SEQ_CLS",
        modules_to_save=["score"],
    )  # fmt: skip
    torch.manual_seed(1)
    adapted = peft.get_peft_model(module, config).eval()
    with torch.no_grad():
        adapted.base_model.model.score.modules_to_save["default"].weight.normal_()
    adapted.save_pretrained(str(tmp_path / "lora"))
    file = tmp_path / "lora" / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "base_model_name_or_path": str(tmp_path / "base")}))

    reranker = rerank_core.load(tmp_path / "lora", device="cpu")
    assert isinstance(reranker.scorer, DecoderClassifier)
    assert reranker.scorer.packed
    tiny = tiny_decoder_classifier(tmp_path / "plain", "qwen3")
    plain = PlainClassifier(tiny)
    plain.model = adapted
    expected = [plain.score(plain.pair(QUERIES[0], document)) for document in DOCUMENTS]
    assert_close(expected, reranker.rerank(QUERIES[0], DOCUMENTS).scores())
