"""Layers after an encoder in the formats of sentence-transformers: ``Dense``, ``LayerNorm`` and ``Normalize``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from rerank_core import InputError
from rerank_core.backends.torch.side_layers.projection import Projection
from rerank_trainers.publish.folders.json_files import write_json

__all__ = ["write_dense", "write_layer", "write_projection"]


def write_projection(folder: Path, layers: Iterable[torch.nn.Module], names: Sequence[str]) -> None:
    """Write each layer into its folder.

    Args:
        folder: the published folder.
        layers: in the order in which they are applied, such as a module's ``projection``; see `write_layer`.
        names: a folder's name for each, such as ``1_Dense``.

    Raises:
        InputError: a layer of another class, or as many names as there are not layers.
    """
    given = list(layers)
    if len(given) != len(names):
        raise InputError(f"there are {len(given)} layers and the names {list(names)!r}; give one name per layer")
    for layer, name in zip(given, names, strict=True):
        write_layer(folder / name, layer)


def write_layer(folder: Path, layer: torch.nn.Module) -> None:
    """Write a `Projection` (`write_dense`), a LayerNorm or a layer that scales vectors to length 1 into its folder.
    Readers know the first two by the settings, and the last, which has none, by the folder's name.

    Raises:
        InputError: a layer of another class.
    """
    if isinstance(layer, Projection):
        write_dense(folder, layer)
    elif isinstance(layer, torch.nn.LayerNorm) and layer.bias is not None:
        write_json(folder / "config.json", {"dimension": layer.normalized_shape[0]})
        _save(folder, {"norm.weight": layer.weight, "norm.bias": layer.bias})
    elif folder.name.endswith("Normalize") and not any(True for _ in layer.parameters()):
        write_json(folder / "config.json", {})
    else:
        raise InputError(
            f"the layer {folder.name!r} is a {type(layer).__name__}; a Projection and a LayerNorm can be "
            "written, and in a folder *_Normalize a layer without weights"
        )


def write_dense(folder: Path, layer: Projection) -> None:
    """Write ``config.json`` and ``model.safetensors``, in the dtype of the weights. `dense_layer` of rerank-core,
    sentence-transformers and PyLate read them.

    The configuration does not name the layer's input: sentence-transformers before 5.4 knows no such setting, and later
    releases read the pooled text in a `SentenceTransformer` and the tokens in a `MultiVectorEncoder`.
    """
    weights = {"linear.weight": layer.weight, "linear.bias": layer.bias, "residual.weight": layer.residual}
    activation = getattr(torch.nn, layer.activation)
    config: dict[str, Any] = {
        "in_features": layer.weight.shape[1],
        "out_features": layer.width,
        "bias": layer.bias is not None,
        "activation_function": f"{activation.__module__}.{activation.__qualname__}",
    }
    if layer.has_residual:  # earlier releases have no such setting
        config["use_residual"] = True
    write_json(folder / "config.json", config)
    _save(folder, weights)


def _save(folder: Path, weights: Mapping[str, torch.Tensor | None]) -> None:
    save_file(
        {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items() if tensor is not None},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
