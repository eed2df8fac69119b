"""The linear layers that a late-interaction checkpoint keeps beside its encoder, in the places where they are kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from rerank_core.backends.torch.pickle_conversion import conversion
from rerank_core.backends.torch.safetensors_reader import names_of, tensors_of
from rerank_core.errors import CheckpointError, short
from rerank_core.spec.untrusted_files import read_json, reason, regular_file

__all__ = ["Projection", "linear_of_file", "load_projection"]

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
    """One layer: ``activation(W x + b)``, plus ``x`` or a linear map of it where the layer has a residual.

    Args:
        place: the file, or the name in one, for messages.
        given: width of the vectors that it takes.

    Raises:
        CheckpointError: tensors whose shapes do not fit them, or each other.
    """

    def __init__(
        self,
        place: str,
        given: int,
        weight: torch.Tensor,
        bias: torch.Tensor | None = None,
        *,
        activation: str = "Identity",
        residual: torch.Tensor | bool = False,
    ) -> None:
        super().__init__()
        if weight.ndim != 2 or weight.shape[1] != given or not weight.shape[0] or not weight.is_floating_point():
            raise CheckpointError(
                f"{place} has the shape {list(weight.shape)} ({weight.dtype}), and it takes vectors of {given}; the "
                "files do not belong together"
            )
        self.width = weight.shape[0]
        beside = {"bias": (bias, [self.width])}
        if residual is True and given != self.width:
            raise CheckpointError(
                f"{place} adds its input of {given} (use_residual) to a result of {self.width}; it needs a "
                "'residual.weight' for that, and has none"
            )
        if isinstance(residual, torch.Tensor):
            beside["residual.weight"] = (residual, [self.width, given])
        for name, (tensor, shape) in beside.items():
            if tensor is not None and list(tensor.shape) != shape:
                raise CheckpointError(f"{place}: {name} has the shape {list(tensor.shape)}; it must be {shape}")
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


def load_projection(
    directory: Path, places: Sequence[str], width: int, *, device: torch.device, dtype: torch.dtype
) -> torch.nn.Module | None:
    """The layers of a checkpoint in turn; None where ``places`` is empty.

    Args:
        places: see `TokenVectors.projection`.
        width: of the encoder's hidden states.

    Raises:
        CheckpointError: a place where nothing lies, or tensors whose shapes do not fit the vectors or each other.
    """
    layers = []
    for place in places:
        if (directory / place).is_dir():
            layer = _dense(directory / place, width)
        elif place.endswith(".pt"):
            layer = linear_of_file(directory / place, width)
        else:
            layer = _named(directory, place, width)
        width = layer.width
        layers.append(layer)
    return torch.nn.Sequential(*layers).to(device=device, dtype=dtype).eval() if layers else None


def linear_of_file(path: Path, given: int, made: int | None = None) -> Projection:
    """The ``weight`` and ``bias`` of a file that torch saved, read without running anything in it.

    Args:
        given: width of the vectors that it takes.
        made: of those that it must give.

    Raises:
        CheckpointError: missing, damaged, something else than two tensors, or of other shapes.
    """
    if not regular_file(path).is_file():
        raise CheckpointError(f"{path} is missing; the model's scores depend on it")
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged or malicious pickle makes of the reader
        raise CheckpointError(f"{path} cannot be read as tensors alone: {reason(error)}") from error
    weight, bias = (saved.get("weight"), saved.get("bias")) if isinstance(saved, dict) else (None, None)
    if not isinstance(weight, torch.Tensor) or not (bias is None or isinstance(bias, torch.Tensor)):
        raise CheckpointError(f"{path} holds no tensor 'weight', which a linear layer has")
    if other := sorted(map(str, saved.keys() - {"weight", "bias"})):
        raise CheckpointError(f"{path} holds {short(other[0])}, which a linear layer has not")
    layer = Projection(str(path), given, weight, bias)
    if made is not None and layer.width != made:
        raise CheckpointError(f"{path} gives vectors of {layer.width}; it must give {made}")
    return layer


def _dense(folder: Path, given: int) -> Projection:
    """A layer as sentence-transformers and PyLate save it."""
    config = read_json(folder / "config.json")
    activation = config.of("activation_function", str, "Tanh").rpartition(".")[2]
    if activation not in _ACTIVATIONS:
        raise config.wrong("activation_function", f"known are {', '.join(_ACTIVATIONS)}")
    saved = tensors_of(folder, ["linear.weight", "linear.bias", "residual.weight"])
    if "linear.weight" not in saved:
        pickled = "pytorch_model.bin"
        advice = f". {conversion(folder, pickled)}" if (folder / pickled).is_file() else ""
        raise CheckpointError(
            f"{folder} holds no 'linear.weight' in safetensors; the model's scores depend on it{advice}"
        )
    if other := sorted(names_of(folder) - saved.keys()):
        raise CheckpointError(f"{folder} holds {other[0]!r}, which no layer of sentence-transformers' Dense has")
    residual = saved.get("residual.weight", config.of("use_residual", bool, False))
    weight, bias = saved["linear.weight"], saved.get("linear.bias")
    if config.of("bias", bool, bias is not None) != (bias is not None):
        raise config.wrong("bias", f"and 'linear.bias' is {'not ' if bias is None else ''}in the weights beside it")
    return Projection(str(folder), given, weight, bias, activation=activation, residual=residual)


def _named(directory: Path, name: str, given: int) -> Projection:
    """A weight among the encoder's own."""
    bias = name.removesuffix("weight") + "bias"
    saved = tensors_of(directory, [name, bias])
    if name not in saved:
        raise CheckpointError(f"{directory} holds no {name!r}; the model's scores depend on it")
    return Projection(f"{directory}: the projection {name!r}", given, saved[name], saved.get(bias))
