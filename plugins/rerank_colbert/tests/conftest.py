"""Tiny folders in the formats of other libraries; `make parity` has folders that those libraries wrote."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rerank_core.testing import tiny_encoder

if TYPE_CHECKING:
    import torch

WIDTH = 32


def write(path: Path, data: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data), encoding="utf-8")


def linear(rows: int, seed: int) -> dict[str, torch.Tensor]:
    import torch

    draw = torch.Generator().manual_seed(seed)
    return {"weight": torch.randn(rows, WIDTH, generator=draw) * 0.3, "bias": torch.randn(rows, generator=draw) * 0.3}


def write_m3(folder: Path) -> Path:
    """Write an XLM-R with BGE-M3's two files of linear layers."""
    import torch

    tiny_encoder(folder, "xlm-roberta")
    torch.save(linear(WIDTH, 1), folder / "colbert_linear.pt")
    sparse = linear(1, 2)
    sparse["bias"] += 1  # so that not every weight is cut off at zero
    torch.save(sparse, folder / "sparse_linear.pt")
    return folder


@pytest.fixture
def m3(tmp_path: Path) -> Path:
    """A tiny BGE-M3, which the test may change."""
    return write_m3(tmp_path / "m3")


@pytest.fixture(scope="session")
def m3_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BGE-M3, not to be changed."""
    return write_m3(tmp_path_factory.mktemp("once") / "m3")


@pytest.fixture
def pylate(tmp_path: Path) -> Callable[..., Path]:
    """A folder as PyLate saves it; ``settings`` go into its configuration, and ``more`` into modules.json."""

    from safetensors.torch import save_file

    def of(more: list[dict[str, Any]] | None = None, **settings: Any) -> Path:
        folder = tiny_encoder(tmp_path / "pylate", "bert")
        modules = [
            {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Dense", "type": "pylate.models.Dense.Dense"},
            *(more or []),
        ]
        write(folder / "modules.json", modules)
        said = {"query_prefix": "", "document_prefix": "", "query_length": 24, "document_length": 64}
        write(folder / "config_sentence_transformers.json", {"model_type": "ColBERT", **said, **settings})
        dense = {"in_features": WIDTH, "out_features": 8, "bias": False}
        write(folder / "1_Dense" / "config.json", {**dense, "activation_function": "torch.nn.modules.linear.Identity"})
        save_file({"linear.weight": linear(8, 3)["weight"]}, folder / "1_Dense" / "model.safetensors")
        return folder

    return of


def write_stanford(folder: Path, **settings: Any) -> Path:
    """Write a folder as ColBERTv2's; ``settings`` go into artifact.metadata."""
    from safetensors.torch import load_file, save_file

    tiny_encoder(folder, "bert")
    weights = {f"bert.{name}": tensor for name, tensor in load_file(folder / "model.safetensors").items()}
    weights["linear.weight"] = linear(8, 4)["weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    write(folder / "config.json", {**config, "architectures": ["HF_ColBERT"]})
    # The tiny vocabulary has no [unused0], and any token of it can be a marker.
    write(folder / "artifact.metadata", {"query_token_id": "the", "doc_token_id": "of", **settings})
    return folder


@pytest.fixture
def stanford(tmp_path: Path) -> Callable[..., Path]:
    """Writes a folder as ColBERTv2's with these settings, which the test may change."""
    return functools.partial(write_stanford, tmp_path / "stanford")


@pytest.fixture(scope="session")
def stanford_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as ColBERTv2's, not to be changed."""
    return write_stanford(tmp_path_factory.mktemp("once") / "stanford", doc_maxlen=64)
