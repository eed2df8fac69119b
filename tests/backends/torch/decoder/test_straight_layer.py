"""A decoder layer as one function gives the hidden states of transformers' module; it is chosen for known families."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.models.causal import load, scorer
from rerank_core.backends.torch.attention import packing
from rerank_core.backends.torch.decoder import straight_layer
from rerank_core.backends.torch.decoder.layer_runner import LayerRunner
from rerank_core.testing import tiny_causal_lm

CONFIG: dict[str, dict[str, Any]] = {
    "llama": {}, "qwen2": {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1}, "qwen3": {},
    "mistral": {"sliding_window": 16}, "gemma": {}, "gemma2": {"sliding_window": 16, "attn_logit_softcapping": 2.0},
}  # fmt: skip


def module_of(family: str, directory: Path) -> Any:
    """A decoder with norms of random weights, whose attention is ours."""
    from transformers import AutoModel

    folder = tiny_causal_lm(directory, family, layers=3, **CONFIG[family])
    module: Any = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    torch.manual_seed(1)
    for name, weight in module.named_parameters():
        if "norm" in name:
            torch.nn.init.normal_(weight, mean=0.0 if "gemma" in family else 1.0, std=0.3)
    packing.set_attention(module, packing.NAME)
    return module


def hidden_of(module: Any, *, straight: bool) -> list[torch.Tensor]:
    """Hidden states after two layers, and of the last tokens after three: rows longer and shorter than the sliding
    window, behind two prefixes."""
    runner = LayerRunner(module)
    runner.straight = runner.skip_unread = straight
    rows = [[9, 10, 11], [12] * 30, list(range(20, 45)), [13]]
    with torch.inference_mode():
        state = runner.start({0: [5, 6, 7], 1: [8] * 20}, rows, [0, 1, 1, 0], [(0, 0)] * 4)
        runner.advance(state, 2)
        return [state.hidden[0].clone(), runner.finish(state, 3)]


@pytest.mark.parametrize("family", sorted(straight_layer.FAMILIES))
def test_layers_equal_the_modules(family: str, tmp_path: Path) -> None:
    module = module_of(family, tmp_path)
    for own, expected in zip(hidden_of(module, straight=True), hidden_of(module, straight=False), strict=True):
        torch.testing.assert_close(own, expected, rtol=1e-4, atol=1e-5)
        assert expected.std() > 0.1


@pytest.mark.parametrize("family", sorted(straight_layer.FAMILIES))
def test_half_precision_is_as_exact_as_the_modules(family: str, tmp_path: Path) -> None:
    """Compared with float32 and the same weights: rounded at other places, but no more."""
    half = module_of(family, tmp_path).to(torch.bfloat16)
    exact, _ = hidden_of(copy.deepcopy(half).float(), straight=False)
    own, theirs = (hidden_of(half, straight=straight)[0] for straight in (True, False))
    assert (own - exact).norm() < 1.1 * (theirs - exact).norm()


@pytest.mark.parametrize("family", ["qwen3", "gemma"])
def test_norms_are_those_of_transformers(family: str, tmp_path: Path) -> None:
    """Bit for bit in float32; in half precision within a unit of the last place of the exact norm."""
    module = module_of(family, tmp_path)
    norm = module.layers[0].input_layernorm
    x = torch.randn(50, norm.weight.shape[0])
    with torch.inference_mode():
        exact = norm(x)
        assert torch.equal(straight_layer._normed(norm, x), exact)
        half = straight_layer._normed(norm.to(torch.bfloat16), x.bfloat16()).float()
    torch.testing.assert_close(half, exact, rtol=2**-6, atol=2**-6)


def test_only_known_families_are_run_so(tmp_path: Path) -> None:
    """Chosen at load; a family that is not known runs its modules, and so does a module of the caller's."""
    for family, straight in (("qwen3", True), ("gemma2", True), ("granite", False)):
        own = scorer(load(tiny_causal_lm(tmp_path / family, family)))
        assert (own.packed, own._whole, own.runner.straight) == (True, False, straight)
