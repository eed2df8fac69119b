"""What a model does between its last hidden states and its logits is what its own class does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from helpers.models.causal import YES_NO, loaded
from helpers.plain import PlainCausal, assert_close
from rerank_core import CheckpointError, Reranker
from rerank_core.backends.torch import scorer_of
from rerank_core.backends.torch.decoder.output_layer import TokenLogits
from rerank_core.testing import tiny_causal_lm

QUERY = "what is a panda"
DOCUMENTS = ("panda", "pandas eat bamboo, it is the answer " * 3, "熊猫吃竹子", "")

# What each does to its logits, or how it calls its output layer.
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "a factor": ("cohere", {"logit_scale": 0.0625}),
    "a large factor": ("cohere2", {"logit_scale": 16.0}),
    "a divisor": ("granitemoe", {"logits_scaling": 4.0, "num_local_experts": 4}),
    "a multiplier of state space models": (
        "falcon_h1",
        {"lm_head_multiplier": 0.25, "mamba_d_ssm": 64, "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 16},
    ),
    "a cap": ("gemma3_text", {"final_logit_softcapping": 2.0}),
    "a width divided by another before": ("minicpm3", {
        "dim_model_base": 8, "qk_nope_head_dim": 4, "qk_rope_head_dim": 4, "q_lora_rank": 16, "kv_lora_rank": 16,
        "v_head_dim": 8, "num_key_value_heads": 4, "head_dim": 4,
    }),
    "embed_out in its files": ("gpt_neox", {}),
    "a bias": ("phi", {}),
    "a bias, of old": ("gptj", {"rotary_dim": 4}),
    "a narrower embedding": ("opt", {"ffn_dim": 64, "word_embed_proj_dim": 16}),
    "a layer and a norm before": ("bert", {"is_decoder": True}),
}  # fmt: skip


def expected(plain: PlainCausal, documents: tuple[str, ...] = DOCUMENTS) -> list[float]:
    return [plain.score(["A: " + QUERY, "\n", "B: " + text, "\nyes?"], "yes", "no") for text in documents]


@pytest.mark.parametrize("name", FAMILIES)
def test_log_odds_are_those_of_the_models_own_logits(name: str, tmp_path: Path) -> None:
    """Loaded without its output layer, and live: both give plain transformers' log-odds."""
    family, more = FAMILIES[name]
    directory = tiny_causal_lm(tmp_path, family, **more)
    plain = PlainCausal(directory)
    reranker = loaded(directory)
    live: Any = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    beside = Reranker.from_scorer(scorer_of(live.eval(), reranker.scorer.tokenizer, YES_NO), YES_NO)

    wanted = expected(plain)
    assert_close(wanted, reranker.rerank(QUERY, DOCUMENTS).scores())
    assert_close(wanted, beside.rerank(QUERY, DOCUMENTS).scores())


def test_an_output_layer_in_the_files_goes_before_a_tie_in_the_configuration(tmp_path: Path) -> None:
    """transformers leaves the two apart where they differ; reading the embeddings would score another model."""
    directory = tiny_causal_lm(tmp_path, "qwen2", tie_word_embeddings=True)
    file = directory / "model.safetensors"
    held = load_file(file)
    held["lm_head.weight"] = held["model.embed_tokens.weight"].flip(0).contiguous()
    save_file(held, file, {"format": "pt"})

    assert_close(expected(PlainCausal(directory)), loaded(directory).rerank(QUERY, DOCUMENTS).scores())


def test_logits_that_cannot_be_read_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model whose logits depend on more than the last hidden states is named, not scored by half of it."""
    from transformers import Qwen2ForCausalLM

    forward = Qwen2ForCausalLM.forward

    def by_place(self: Any, input_ids: Any = None, inputs_embeds: Any = None, **more: Any) -> Any:
        out = forward(self, input_ids=input_ids, inputs_embeds=inputs_embeds, **more)
        out.logits = out.logits * (2.0 if inputs_embeds is None else 1.0)
        return out

    monkeypatch.setattr(Qwen2ForCausalLM, "forward", by_place)
    with pytest.raises(CheckpointError, match="cannot be computed from the last hidden states"):
        loaded(tiny_causal_lm(tmp_path, "qwen2"))


def test_rows_of_a_live_layer_are_read_as_they_are(tmp_path: Path) -> None:
    """An output layer in training changes under the reader."""
    whole: Any = AutoModelForCausalLM.from_pretrained(tiny_causal_lm(tmp_path, "cohere", logit_scale=0.5))
    layer = TokenLogits(whole, (7, 9), "x")
    hidden = torch.randn(3, 32)
    with torch.no_grad():
        before = layer(hidden)
        whole.lm_head.weight.mul_(2)

        assert torch.allclose(layer(hidden), 2 * before)
