"""The hub's cache with tiny random checkpoints in it, so that examples load models by name without a network."""

from __future__ import annotations

from pathlib import Path

from rerank_core.testing import tiny_causal_lm, tiny_cross_encoder, tiny_encoder, tiny_encoder_decoder

__all__ = ["fill", "snapshot"]


def snapshot(cache: Path, hub_id: str, revision: str) -> Path:
    """An empty folder for the files of a hub id at a revision, laid out as the hub's own library does."""
    repository = cache / f"models--{hub_id.replace('/', '--')}"
    folder = repository / "snapshots" / revision
    folder.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(revision)
    return folder


_LOADED = (
    "bge-reranker-v2-m3", "bce-reranker-base", "qwen3-reranker-0.6b", "bge-m3-colbert", "monot5-base",
    "ms-marco-minilm-l6",
)  # fmt: skip


def fill(cache: Path) -> None:
    """Write a tiny checkpoint for each model that the package pages load by its name."""
    import rerank_core

    for spec in rerank_core.models():
        if spec.name in _LOADED:
            folder = snapshot(cache, spec.checkpoint, spec.revision or "a" * 40)
            if spec.name == "qwen3-reranker-0.6b":
                tiny_causal_lm(folder, "qwen3", max_position_embeddings=8192)
            elif spec.name == "monot5-base":
                tiny_encoder_decoder(folder, "t5", pickled=True)
            elif spec.name == "bge-m3-colbert":
                bge_m3(folder)
            else:
                tiny_cross_encoder(folder, "bert" if spec.name == "ms-marco-minilm-l6" else "xlm-roberta")


def bge_m3(folder: Path) -> None:
    """An encoder with BGE-M3's two linear layers."""
    import torch

    tiny_encoder(folder, "xlm-roberta")
    width = 32
    for name, rows in (("colbert_linear.pt", width), ("sparse_linear.pt", 1)):
        draw = torch.Generator().manual_seed(rows)
        layer = {"weight": torch.randn(rows, width, generator=draw), "bias": torch.ones(rows)}
        torch.save(layer, folder / name)
