"""A decoder layer as one function gives the hidden states of transformers' module; it is chosen for known families."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters

from helpers.models.causal import load, scorer
from rerank_core.backends.torch.attention import packing
from rerank_core.backends.torch.decoder import straight_layer
from rerank_core.backends.torch.decoder.causal_lm import DecoderScorer
from rerank_core.backends.torch.decoder.layer_runner import LayerRunner
from rerank_core.backends.torch.execution import Execution
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


def hidden_of(module: Any, *, straight: bool, compiled: bool = False, longest: int = 30) -> list[torch.Tensor]:
    """Hidden states after two layers, and of the last tokens after three: rows longer and shorter than the sliding
    window, behind two prefixes."""
    runner = LayerRunner(module)
    runner.straight = runner.skip_unread = straight
    runner.compiled = compiled
    rows = [[9, 10, 11], [12] * longest, list(range(20, 45)), [13]]
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


@pytest.mark.skipif(shutil.which("c++") is None, reason="torch's compiler for the CPU needs a C++ compiler")
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")  # torch's compiler uses it itself
def test_compiled_layers_equal_the_modules(tmp_path: Path) -> None:
    """Translated once for all layers and lengths: before the attention, after it, and before it in the last layer."""
    module = module_of("qwen3", tmp_path)
    counters.clear()
    for longest in (30, 7, 41):
        own = hidden_of(module, straight=True, compiled=True, longest=longest)
        expected = hidden_of(module, straight=False, longest=longest)
        torch.testing.assert_close(own, expected, rtol=1e-4, atol=1e-5)
    assert counters["stats"]["unique_graphs"] == 3


def test_a_layer_that_cannot_be_compiled_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the compiler fails, as without a C compiler beside a GPU, the functions are run as they are."""

    def fails(*arguments: object, **options: object) -> None:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(torch, "compile", lambda function, **options: fails)
    monkeypatch.setattr(straight_layer, "_parts", straight_layer._parts.__wrapped__)  # without its cache
    model = scorer(load(tiny_causal_lm(tmp_path, "qwen3")))
    again = DecoderScorer(
        model.module, model.tokenizer, model.spec, score_head=model.score_head, execution=Execution(compiled=True)
    )
    assert (again.packed, again.runner.straight, again.runner.compiled) == (True, True, False)


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
