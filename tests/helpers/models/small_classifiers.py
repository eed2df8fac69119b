"""Small random classifiers of several architectures, in any dtype and on any device, and rows for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from rerank_core.backends.tokenizer import TextTokenizer
from rerank_core.backends.torch.cross_encoder.classifier import ClassifierScorer
from rerank_core.backends.torch.execution import Execution
from rerank_core.scorer import Batch, Row
from rerank_core.testing import fake_spec
from rerank_core.testing.checkpoints import tiny_tokenizer

HALF = (torch.float16, torch.bfloat16)
SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "num_labels": 1,
    "pad_token_id": 0,
}
WIDE = {**SMALL, "hidden_size": 64}
LOCAL = {"local_attention": 16, "global_attn_every_n_layers": 2, "cls_token_id": 1, "sep_token_id": 2}
FAMILIES: dict[str, dict[str, Any]] = {
    "bert": WIDE,
    "xlm-roberta": {**WIDE, "pad_token_id": 1},
    "modernbert": {**WIDE, **LOCAL, "bos_token_id": 1, "eos_token_id": 2},
    "deberta-v2": {**WIDE, "relative_attention": True, "pos_att_type": "p2c|c2p"},
}


def classifier(family: str, dtype: torch.dtype, device: str, std: float) -> Any:
    """A random classifier of an architecture."""
    size = max(tiny_tokenizer("bert").get_vocab().values()) + 1
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        config = AutoConfig.for_model(family, vocab_size=size, **FAMILIES[family])
        module = AutoModelForSequenceClassification.from_config(config)
        for weights in module.parameters():
            if weights.dim() > 1:
                torch.nn.init.normal_(weights, std=std)
    return module.to(device, dtype).eval()


def scorer(family: str, dtype: torch.dtype, device: str) -> ClassifierScorer:
    """It behind the seam, its rows packed if they can be."""
    module = classifier(family, dtype, device, 0.1)
    return ClassifierScorer(module, TextTokenizer(tiny_tokenizer("bert")), fake_spec(), execution=Execution())


def batch_of(rows: Sequence[Sequence[int]]) -> Batch:
    """Rows of one query."""
    return Batch({}, [Row(0, doc, 0, row, None, (1, len(row)), (1, len(row))) for doc, row in enumerate(rows)])


ROWS = [[2, *(5 + (13 * place + 7 * length) % 200 for place in range(length - 2)), 3] for length in (70, 33, 33, 9, 4)]
