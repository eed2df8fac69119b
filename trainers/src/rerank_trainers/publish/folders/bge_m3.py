"""``colbert_linear.pt`` beside the weights, as BGE-M3 and RAG-Retrieval keep the layer of their late interaction."""

from __future__ import annotations

import torch

from rerank_core.backends.torch.side_layers.projection import dense_layer
from rerank_trainers.publish.folders.late_folder import LateFolder

__all__ = ["bge_m3_fault", "bge_m3_notes", "write_bge_m3"]

_FILE = "colbert_linear.pt"


def bge_m3_fault(late: LateFolder) -> str | None:
    """Why the format cannot express the model; None if it can. Its readers average over the query's vectors, leave out
    the first token, and have neither markers, prompts, skip-lists nor filled-up queries."""
    vectors = late.vectors
    if late.head.reduce != "mean":
        return "its readers average over the query's vectors, and the model sums"
    if not vectors.skip_first or len(late.frame[0]) != 1:
        return "its readers leave out the first token, and the model does not"
    if not vectors.normalize:
        return "its readers scale every vector to length 1"
    if any(late.prompts) or any(late.markers) or late.skipped or vectors.expand_to is not None:
        return "its readers know no markers, prompts, skip-lists or filled-up queries"
    layers = [] if late.dense is None else list(late.dense.values())
    if len(layers) != 1:
        return f"it has one layer, and the model {len(vectors.projection)}"
    if not layers[0]["activation_function"].endswith(".Identity") or layers[0].get("use_residual"):
        return "its layer is linear, and the model's has an activation or a residual"
    return None


def bge_m3_notes(late: LateFolder) -> list[str]:
    """Differences that remain for its users."""
    notes = ["FlagEmbedding needs sparse_linear.pt beside it, which only BGE-M3 has"]
    widths = [(layer["in_features"], layer["out_features"]) for layer in (late.dense or {}).values()]
    notes += [f"FlagEmbedding must be told colbert_dim={width}" for hidden, width in widths if width != hidden]
    return notes


def write_bge_m3(late: LateFolder) -> None:
    """Write the file from the layer's Dense folder."""
    assert late.dense is not None
    ((name, settings),) = late.dense.items()
    layer = dense_layer(late.folder / name, settings["in_features"])
    # Readers load both tensors.
    bias = layer.weight.new_zeros(layer.width) if layer.bias is None else layer.bias
    saved = {"weight": layer.weight.detach().clone(), "bias": bias.detach().clone()}
    torch.save(saved, late.folder / _FILE)
