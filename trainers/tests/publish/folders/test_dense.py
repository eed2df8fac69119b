"""Layers after an encoder, read back by rerank-core and by sentence-transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.separate_folders import layer

from rerank_core import InputError
from rerank_core.backends.torch.side_layers.projection import dense_layer
from rerank_trainers.publish.folders.dense import write_dense, write_projection

LAYERS = {
    "plain": {"width": 8, "bias": False},
    "bias": {"width": 8, "activation": "Tanh"},
    "gelu": {"width": 16, "activation": "GELU", "residual": True},
    "residual": {"width": 8, "activation": "SiLU", "residual": "linear"},
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_is_read_back_with_the_same_output(name: str, tmp_path: Path) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    settings: dict[str, Any] = LAYERS[name]
    made = layer(16, **settings)
    write_dense(tmp_path / "2_Dense", made)
    x = torch.randn(5, 16, generator=torch.Generator().manual_seed(3))
    expected = made(x)

    assert torch.equal(dense_layer(tmp_path / "2_Dense", 16)(x), expected)
    theirs = sentence_transformers.sentence_transformer.modules.Dense.load(str(tmp_path / "2_Dense"))
    assert torch.allclose(theirs({"sentence_embedding": x})["sentence_embedding"], expected, atol=1e-6)


def test_half_precision_is_kept(tmp_path: Path) -> None:
    """A folder in float16 has its layers in float16."""
    made = layer(16, 8).half()
    write_dense(tmp_path / "d", made)

    read = dense_layer(tmp_path / "d", 16)
    assert read.weight.dtype == torch.float16
    assert torch.equal(read.weight, made.weight)


def test_a_layer_without_a_residual_says_nothing_of_one(tmp_path: Path) -> None:
    """sentence-transformers before 6 refuses the setting."""
    write_dense(tmp_path / "d", layer(16, 8))

    assert set(json.loads((tmp_path / "d" / "config.json").read_text("utf-8"))) == {
        "in_features", "out_features", "bias", "activation_function",
    }  # fmt: skip


def test_every_layer_has_a_name_and_is_a_projection(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="2 layers"):
        write_projection(tmp_path, [layer(4, 4), layer(4, 4)], ["1_Dense"])
    with pytest.raises(InputError, match="Linear"):
        write_projection(tmp_path, [torch.nn.Linear(4, 4)], ["1_Dense"])
