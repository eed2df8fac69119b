"""What is read off a causal model: a few rows of its output layer, in float32, and nothing as large as its vocabulary
times the tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import Gemma2Config, Gemma2ForCausalLM

from rerank_core import Head, ModelSpec, Reranker, Template
from rerank_core.backends.torch import build
from rerank_core.backends.torch.decoder.heads import LabelHead, LayerHeads
from rerank_core.backends.torch.decoder.output_layer import TokenLogits
from rerank_core.options import Options
from rerank_core.testing import tiny_causal_lm

HALVES = (torch.bfloat16, torch.float16)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("softcap", [None, 30.0])
def test_log_odds_are_differences_of_float32(dtype: torch.dtype, softcap: float | None) -> None:
    """Large logits that differ a little: of hidden states in half precision the exact log-odds come out, not steps."""
    draw = torch.Generator().manual_seed(0)
    hidden = torch.randn(50, 64, generator=draw).to(dtype)
    weight = torch.randn(1, 64, generator=draw).repeat(2, 1)
    weight[1] += torch.randn(64, generator=draw) * 0.01
    weight = weight.to(dtype)
    config = Gemma2Config(
        vocab_size=2, hidden_size=64, num_hidden_layers=1, intermediate_size=8, num_attention_heads=4, head_dim=8,
        num_key_value_heads=2, final_logit_softcapping=softcap, pad_token_id=0, tie_word_embeddings=False,
    )  # fmt: skip
    whole = Gemma2ForCausalLM(config).to(dtype)
    whole.lm_head.weight.data = weight
    logits = hidden.double() @ weight.double().T
    expected = logits if softcap is None else torch.tanh(logits / softcap) * softcap

    found = LabelHead((1,), (0, 1), TokenLogits(whole, (0, 1), "x")).scores(hidden, 1)
    assert found.dtype == torch.float32
    assert torch.allclose(found.double(), expected[:, 0] - expected[:, 1], atol=1e-4)
    one = LayerHeads((1,), {1: weight[:1]}, softcap).scores(hidden, 1)
    assert torch.allclose(one.double(), expected[:, 0], atol=1e-4)


class Largest(TorchDispatchMode):
    """Remembers the most elements that any operation's result had."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for one in out if isinstance(out, (tuple, list)) else (out,):
            # Views of weights cost nothing.
            if isinstance(one, torch.Tensor) and not one._is_view():
                self.elements = max(self.elements, one.numel())
        return out


@pytest.mark.parametrize("tied", [True, False])
def test_nothing_is_as_large_as_the_vocabulary_times_the_tokens(tied: bool, tmp_path: Path) -> None:
    """Nor as the vocabulary times the rows."""
    folder = tiny_causal_lm(tmp_path, "qwen3", hidden=16, intermediate_size=32, tie_word_embeddings=tied)
    spec = ModelSpec(
        name="x", checkpoint=str(folder), template=Template(query="Q: {query}", between="\n", doc="D: {doc}"),
        head=Head.last_token("yes", "no"), max_length=256,
    )  # fmt: skip
    options = Options.of(spec, {"device": "cpu"})
    reranker = Reranker(build(spec, options), spec, options)
    scorer: Any = reranker.scorer
    vocabulary = scorer.module.get_input_embeddings().weight.shape[0]
    with Largest() as largest:
        tokens = reranker.rerank("pandas", ["a panda eats bamboo"] * 1 + [f"bear {n}" for n in range(40)]).usage.tokens
    assert tokens is not None
    assert 0 < largest.elements < vocabulary * 41
    assert largest.elements < vocabulary * tokens / 8
