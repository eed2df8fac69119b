"""The linear layers that a late-interaction checkpoint keeps beside its encoder, in the places where they are kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from rerank_core.backends.torch.weights import tensors_of
from rerank_core.errors import CheckpointError
from rerank_core.spec_file import read_json

__all__ = ["Projection", "linear_of_file", "projection_of"]

# What sentence-transformers' Dense may put after its product: the class's name, wherever it was imported from.
_ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "Identity": lambda x: x,
    "Tanh": torch.tanh,
    "ReLU": torch.relu,
    "GELU": torch.nn.functional.gelu,
    "SiLU": torch.nn.functional.silu,
    "Sigmoid": torch.sigmoid,
}


class Projection(torch.nn.Module):
    """One layer: ``activation(W x + b)``, plus ``x`` or a linear map of it where the layer has a residual."""

    def __init__(
        self,
        weight: torch.Tensor,
        bias: torch.Tensor | None = None,
        *,
        activation: str = "Identity",
        residual: torch.Tensor | bool = False,
    ) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.register_buffer("residual", residual if isinstance(residual, torch.Tensor) else None)
        self.adds = residual is not False
        self.activation = _ACTIVATIONS[activation]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        buffers: Any = self
        made = self.activation(torch.nn.functional.linear(x, buffers.weight, buffers.bias))
        if not self.adds:
            return made
        return made + (x if buffers.residual is None else torch.nn.functional.linear(x, buffers.residual))


def projection_of(
    directory: Path, places: Sequence[str], width: int, *, device: torch.device, dtype: torch.dtype
) -> torch.nn.Module | None:
    """The layers of a checkpoint in turn; None where ``places`` is empty.

    Args:
        places: see `TokenVectors.projection`.
        width: of the encoder's hidden states.

    Raises:
        CheckpointError: a place where nothing lies, or a layer that takes vectors of another width.
    """
    layers = []
    for place in places:
        if (directory / place).is_dir():
            layer = _dense(directory / place)
        elif place.endswith(".pt"):
            layer = linear_of_file(directory / place)
        else:
            layer = _named(directory, place)
        weight: Any = layer.weight
        if weight.ndim != 2 or weight.shape[1] != width:
            raise CheckpointError(
                f"{directory}: the projection {place!r} has the shape {list(weight.shape)}, and it takes vectors of "
                f"{width}; the files do not belong together"
            )
        width = weight.shape[0]
        layers.append(layer)
    return torch.nn.Sequential(*layers).to(device=device, dtype=dtype).eval() if layers else None


def linear_of_file(path: Path) -> Projection:
    """The ``weight`` and ``bias`` of a file that torch saved, read without running anything in it.

    Raises:
        CheckpointError: missing, damaged, or something else than two tensors.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} is missing; the model's scores depend on it")
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged or malicious pickle makes of the reader
        raise CheckpointError(f"{path} cannot be read as tensors alone: {str(error).splitlines()[0]}") from error
    weight, bias = (saved.get("weight"), saved.get("bias")) if isinstance(saved, dict) else (None, None)
    if not isinstance(weight, torch.Tensor) or not (bias is None or isinstance(bias, torch.Tensor)):
        raise CheckpointError(f"{path} holds no tensor 'weight', which a linear layer has")
    return Projection(weight, bias)


def _dense(folder: Path) -> Projection:
    """A layer as sentence-transformers and PyLate save it."""
    config = read_json(folder / "config.json")
    activation = str(config.get("activation_function", "Tanh")).rpartition(".")[2]
    if activation not in _ACTIVATIONS:
        raise CheckpointError(
            f"{folder / 'config.json'}: activation_function is {config['activation_function']!r}; known are "
            f"{', '.join(_ACTIVATIONS)}"
        )
    saved = tensors_of(folder, ["linear.weight", "linear.bias", "residual.weight"])
    if "linear.weight" not in saved:
        raise CheckpointError(f"{folder} holds no 'linear.weight' in safetensors; the model's scores depend on it")
    residual = saved.get("residual.weight", bool(config.get("use_residual", False)))
    return Projection(saved["linear.weight"], saved.get("linear.bias"), activation=activation, residual=residual)


def _named(directory: Path, name: str) -> Projection:
    """A weight among the encoder's own."""
    bias = name.removesuffix("weight") + "bias"
    saved = tensors_of(directory, [name, bias])
    if name not in saved:
        raise CheckpointError(f"{directory} holds no {name!r}; the model's scores depend on it")
    return Projection(saved[name], saved.get(bias))
