"""Folding a calibration into a classifier is exact, or refused."""

from __future__ import annotations

import pytest
import torch

from rerank_core import InputError
from rerank_core.measures import CalibrationMap
from rerank_trainers.publish.fold import fold


@pytest.mark.parametrize("family", ["bert", "xlm-roberta", "modernbert"])
def test_folding_is_exact(family: str) -> None:
    """The logit of the module is the scaled one afterwards, for heads of one layer and of several."""
    from transformers import AutoConfig, AutoModelForSequenceClassification

    config = AutoConfig.for_model(
        family, vocab_size=50, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
        num_labels=1, pad_token_id=0, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2,
    )  # fmt: skip
    module = AutoModelForSequenceClassification.from_config(config).eval()
    ids = torch.arange(3, 23).reshape(2, 10)
    with torch.no_grad():
        before = module(input_ids=ids).logits
        fold(module, CalibrationMap("platt", 2.5, -0.75))
        assert torch.allclose(module(input_ids=ids).logits, 2.5 * before - 0.75, atol=1e-6)


def test_a_head_without_a_bias_is_refused() -> None:
    """A decoder's classifier has no bias, and the message has the offset that it could not take."""
    from transformers import AutoConfig, AutoModelForSequenceClassification

    config = AutoConfig.for_model(
        "qwen2", vocab_size=50, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
        num_key_value_heads=2, num_labels=1, pad_token_id=0,
    )  # fmt: skip
    with pytest.raises(InputError, match=r"has no bias that could take the offset -0\.75"):
        fold(AutoModelForSequenceClassification.from_config(config), CalibrationMap("platt", 2.5, -0.75))
