"""Layers of BERT-like encoders become one function with equal results; every other layer stays what it is."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
from transformers import (
    BertConfig,
    BertModel,
    ElectraConfig,
    ElectraModel,
    MPNetConfig,
    MPNetModel,
    RobertaConfig,
    RobertaModel,
    XLMRobertaConfig,
    XLMRobertaModel,
)

from rerank_core.backends.torch.attention import packing
from rerank_core.backends.torch.encoder import straighten as made
from rerank_core.backends.torch.encoder.products import Int8, Plain, Prepared
from rerank_core.backends.torch.encoder.straight_layer import StraightLayer
from rerank_core.backends.torch.encoder.straighten import restore, straighten

ROWS = [[5, 9, 7, 30, 11, 12, 40], [5, 6, 6], [8, 31, 2, 9, 9, 14, 15, 16, 17], [4]]
SIZE = {
    "vocab_size": 50, "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64,
    "initializer_range": 0.3,
}  # fmt: skip
ENCODERS = {
    "bert": (BertModel, BertConfig), "roberta": (RobertaModel, RobertaConfig),
    "xlm-roberta": (XLMRobertaModel, XLMRobertaConfig), "electra": (ElectraModel, ElectraConfig),
}  # fmt: skip


def encoder(name: str = "bert", **more: Any) -> Any:
    """A tiny encoder with random weights, norms included, and our attention."""
    torch.manual_seed(0)
    model, config = ENCODERS[name]
    extra = {"embedding_size": 48} if name == "electra" else {}
    module = model(config(**SIZE, **extra, **more)).eval()
    for parameter in module.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    module.set_attn_implementation(packing.NAME)
    return module


def packed(module: Any, rows: list[list[int]] = ROWS) -> torch.Tensor:
    """Last hidden states of rows laid end to end."""
    types = [None] * len(rows)
    device = torch.device("cpu")
    with torch.inference_mode():
        return module(**packing.inputs(rows, types, first_position=2, typed=True, device=device)).last_hidden_state


def padded(module: Any) -> torch.Tensor:
    """Last hidden states of the tokens of `ROWS`, from a padded batch."""
    longest = max(map(len, ROWS))
    ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in ROWS])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in ROWS])
    with torch.inference_mode():
        return module(input_ids=ids, attention_mask=mask).last_hidden_state[mask.bool()]


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize(
    ("make", "dtype", "near"),
    [(Plain, torch.float64, 1e-13), (Plain, torch.float32, 5e-6), (Prepared, torch.float32, 5e-6)],
    ids=["float64", "plain", "prepared"],
)
def test_results_are_those_of_the_layers(name: str, make: Any, dtype: torch.dtype, near: float) -> None:
    """Packed and padded, relative to the largest value."""
    module = encoder(name).to(dtype)
    expected = packed(module), padded(module)
    assert len(straighten(module, lambda: packed(module), make)) == 3
    assert all(type(layer) is StraightLayer for layer in module.encoder.layer)

    for before, after in zip(expected, (packed(module), padded(module)), strict=True):
        assert float((before - after).abs().max() / before.abs().max()) < near


@pytest.mark.parametrize("make", [Plain, Prepared], ids=["plain", "prepared"])
def test_restored_layers_have_the_same_weights(make: Any) -> None:
    """Bit-equal, under their names; a trainer begins with them."""
    module = encoder()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    expected, layers = packed(module), list(module.encoder.layer)
    restore(straighten(module, lambda: packed(module), make))
    after = module.state_dict()

    assert list(module.encoder.layer) == layers
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert torch.equal(packed(module), expected)


def test_int8_is_near_and_a_token_does_not_depend_on_the_others() -> None:
    """As with every int8 layer."""
    module = encoder()
    expected = packed(module)
    straighten(module, lambda: packed(module), Int8)
    found = packed(module)

    assert 0 < float((expected - found).norm() / expected.norm()) < 0.15
    assert torch.allclose(found[:, : len(ROWS[0])], packed(module, ROWS[:1]), atol=1e-5)


@pytest.mark.parametrize("activation", ["relu", "gelu_new", "gelu_10", "silu"])
def test_another_activation_keeps_the_layer(activation: str) -> None:
    """Only the exact GELU is computed inside the product. gelu_10 differs from it above 10 alone."""
    module = encoder(hidden_act=activation)
    expected = packed(module)

    assert not straighten(module, lambda: packed(module), Plain)
    assert torch.equal(packed(module), expected)


def test_a_layer_with_something_more_is_kept() -> None:
    """A layer that computes something that we do not know is found out by its results, alone."""
    module = encoder()
    layer = module.encoder.layer[1]
    plain_forward = layer.output.forward
    layer.output.forward = lambda *args: plain_forward(*args) * 1.01
    expected = packed(module)

    assert len(straighten(module, lambda: packed(module), Plain)) == 2
    assert module.encoder.layer[1] is layer
    assert float((expected - packed(module)).abs().max()) < 1e-5


def test_other_encoders_are_kept() -> None:
    """MPNet's attention adds a bias of relative positions and has parts of other names."""
    torch.manual_seed(0)
    module = MPNetModel(MPNetConfig(**SIZE)).eval()

    assert not straighten(module, lambda: module(input_ids=torch.tensor([[5, 6, 7]])), Plain)


def test_a_layer_is_freed_before_the_next_is_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    """At no time is there a second copy of more than one layer."""
    module = encoder()
    weights = [weakref.ref(layer.output.dense.weight) for layer in module.encoder.layer]
    alive: list[int] = []

    class Counted(StraightLayer):
        def __init__(self, layer: Any, make: Any, **options: Any) -> None:
            alive.append(sum(weight() is not None for weight in weights))
            super().__init__(layer, make, **options)

    monkeypatch.setattr(made, "StraightLayer", Counted)
    straighten(module, lambda: packed(module), Prepared)

    assert alive == [3, 3, 2, 2, 1, 1]  # each layer is tried, then prepared
    assert not any(weight() is not None for weight in weights)


def test_a_model_without_such_layers_is_not_computed() -> None:
    """A decoder's forward pass at load takes seconds."""

    def run() -> None:
        raise AssertionError("computed")

    assert straighten(torch.nn.ModuleList([torch.nn.Linear(4, 4)]), run, Plain) == []
