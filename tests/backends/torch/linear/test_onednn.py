"""Weights prepared for oneDNN: in memory once, and read back unchanged where they are not used."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertModel
from transformers.activations import ACT2FN

from rerank_core.backends.torch.linear import onednn


def encoder() -> Any:
    """A tiny BERT with random weights."""
    torch.manual_seed(0)
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    return BertModel(BertConfig(vocab_size=50, **size), add_pooling_layer=False).eval()


def test_a_layer_is_freed_before_the_next_is_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    """The unprepared weights that are in memory never exceed those not yet prepared: there is no second copy."""
    module = encoder()
    linears = [part for part in module.modules() if type(part) is torch.nn.Linear]
    weights = [weakref.ref(linear.weight) for linear in linears]
    count = len(linears)
    del linears
    alive: list[int] = []
    prepare = onednn.PrepackedLinear.__init__

    def counted(self: Any, *args: Any) -> None:
        alive.append(sum(weight() is not None for weight in weights))
        prepare(self, *args)

    monkeypatch.setattr(onednn.PrepackedLinear, "__init__", counted)
    replaced = onednn.prepack(module)

    assert alive == list(range(count, 0, -1))
    assert len([name for _, name, activation in replaced if activation is None]) == count


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_exact_gelu_alone_is_computed_inside_the_product(dtype: torch.dtype) -> None:
    """Not one that is cut off at 10, nor an approximation, whatever the process's default dtype is."""
    torch.set_default_dtype(dtype)
    try:
        found = {
            name for name in ACT2FN if name.startswith("gelu") and onednn.gelu_after(holder(ACT2FN[name]), "dense")
        }
    finally:
        torch.set_default_dtype(torch.float32)
    assert found == {"gelu"}


def holder(activation: Any) -> Any:
    """A module whose layer ``dense`` an activation follows."""
    module: Any = torch.nn.Module()
    module.intermediate_act_fn = activation
    return module


def test_restored_layers_have_the_same_weights() -> None:
    """`restore` gives linear layers with bit-equal weights, and the activation where it was."""
    module = encoder()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    ids = torch.arange(9)[None]
    expected = module(ids).last_hidden_state
    onednn.restore(onednn.prepack(module))
    after = module.state_dict()

    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert torch.equal(module(ids).last_hidden_state, expected)
