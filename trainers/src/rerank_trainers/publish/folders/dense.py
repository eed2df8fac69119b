"""`write_dense`: layers after an encoder in the format of sentence-transformers' ``Dense``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from rerank_core import InputError
from rerank_core.backends.torch.side_layers.projection import Projection
from rerank_trainers.publish.folders.json_files import write_json

__all__ = ["write_dense", "write_projection"]


def write_projection(folder: Path, layers: Iterable[torch.nn.Module], names: Sequence[str]) -> None:
    """Write each layer into its folder.

    Args:
        folder: the published folder.
        layers: `Projection` objects in the order in which they are applied, such as a module's ``projection``.
        names: a folder's name for each, such as ``1_Dense``.

    Raises:
        InputError: a layer of another class, or as many names as there are not layers.
    """
    given = list(layers)
    if len(given) != len(names):
        raise InputError(f"there are {len(given)} layers and the names {list(names)!r}; give one name per layer")
    for layer, name in zip(given, names, strict=True):
        if not isinstance(layer, Projection):
            raise InputError(f"the layer {name!r} is a {type(layer).__name__}; only a Projection can be written")
        write_dense(folder / name, layer)


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
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", config)
    save_file(
        {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items() if tensor is not None},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
