"""Linear layers beside a model, such as ColBERT's projection, in the file formats of several frameworks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from rerank_core.backends.torch.pickle_conversion import conversion_code
from rerank_core.backends.torch.safetensors_reader import names_of, tensors_of
from rerank_core.errors import CheckpointError, short
from rerank_core.spec.untrusted_files import read_json, reason, regular_file

__all__ = ["Projection", "dense_layer", "linear_of_file", "load_projection", "named_layer"]

# Activations of sentence-transformers' Dense, with their default settings, by class name without the module.
_ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "Identity": lambda x: x,
    "Tanh": torch.tanh,
    "ReLU": torch.relu,
    "GELU": torch.nn.functional.gelu,
    "SiLU": torch.nn.functional.silu,
    "Sigmoid": torch.sigmoid,
    "ELU": torch.nn.functional.elu,
    "LeakyReLU": torch.nn.functional.leaky_relu,
    "Mish": torch.nn.functional.mish,
    "ReLU6": torch.nn.functional.relu6,
    "SELU": torch.nn.functional.selu,
    "Softplus": torch.nn.functional.softplus,
    "Softsign": torch.nn.functional.softsign,
}


class Projection(torch.nn.Module):
    """One layer: ``activation(W x + b)``, plus ``x`` or a linear map of ``x`` where the layer has a residual.

    Args:
        source: the file or the name of the weight, for messages.
        width_in: width of the input.
        residual: True adds the input; a tensor ``[width, width_in]`` adds its product with the input.

    Attributes:
        width: width of the output.
        weight, bias, residual: frozen parameters; bias and residual are None without one.
        has_residual: whether the input, or its product, is added.
        activation: name of a class of ``torch.nn``, such as ``Identity`` or ``Tanh``.

    Raises:
        CheckpointError: tensors whose shapes do not fit the input or each other.
    """

    def __init__(
        self,
        source: str,
        width_in: int,
        weight: torch.Tensor,
        bias: torch.Tensor | None = None,
        *,
        activation: str = "Identity",
        residual: torch.Tensor | bool = False,
    ) -> None:
        super().__init__()
        if weight.ndim != 2 or weight.shape[1] != width_in or not weight.shape[0]:
            raise CheckpointError(
                f"{source} has the shape {list(weight.shape)}, and its input has the width {width_in}; the files do "
                "not belong together"
            )
        for tensor in (weight, bias, residual):
            if isinstance(tensor, torch.Tensor) and not tensor.is_floating_point():
                raise CheckpointError(f"{source} has weights of {tensor.dtype}; quantized layers are not supported")
        self.width = weight.shape[0]
        optional = {"bias": (bias, [self.width])}
        if residual is True and width_in != self.width:
            raise CheckpointError(
                f"{source} adds its input of width {width_in} (use_residual) to a result of width {self.width}; it "
                "needs a 'residual.weight' for that, and has none"
            )
        if isinstance(residual, torch.Tensor):
            optional["residual.weight"] = (residual, [self.width, width_in])
        for name, (tensor, shape) in optional.items():
            if tensor is not None and list(tensor.shape) != shape:
                raise CheckpointError(f"{source}: {name} has the shape {list(tensor.shape)}; it must be {shape}")
        self.weight = _frozen(weight)
        self.bias = None if bias is None else _frozen(bias)
        self.residual = _frozen(residual) if isinstance(residual, torch.Tensor) else None
        self.has_residual = residual is not False
        self.activation = activation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output = _ACTIVATIONS[self.activation](torch.nn.functional.linear(x, self.weight, self.bias))
        if not self.has_residual:
            return output
        return output + (x if self.residual is None else torch.nn.functional.linear(x, self.residual))


def _frozen(tensor: torch.Tensor) -> torch.nn.Parameter:
    """A weight that needs no gradient, as long as the layer serves."""
    return torch.nn.Parameter(tensor, requires_grad=False)


def load_projection(
    directory: Path, sources: Sequence[str], width: int, *, device: torch.device, dtype: torch.dtype
) -> torch.nn.Module | None:
    """The linear layers of a checkpoint, one after the other; None where ``sources`` is empty.

    Args:
        sources: see `TokenVectors.projection`.
        width: width of the encoder's hidden states.

    Raises:
        CheckpointError: a layer that is missing, or tensors whose shapes do not fit the input or each other.
    """
    layers = []
    for source in sources:
        if (directory / source).is_dir():
            layer = dense_layer(directory / source, width)
        elif source.endswith(".pt"):
            layer = linear_of_file(directory / source, width)
        else:
            layer = named_layer(directory, source, width)
        width = layer.width
        layers.append(layer)
    return torch.nn.Sequential(*layers).to(device=device, dtype=dtype).eval() if layers else None


def linear_of_file(path: Path, width_in: int, width_out: int | None = None) -> Projection:
    """A linear layer from a file that ``torch.save`` wrote, such as BGE-M3's ``colbert_linear.pt``: ``weight`` and an
    optional ``bias``. Read with ``weights_only=True``, so nothing in the file is run.

    Args:
        width_in: width of the input.
        width_out: the width that the output must have; None for any.

    Raises:
        CheckpointError: a file that is missing or damaged, holds anything but the two tensors, or has other shapes.
    """
    if not regular_file(path).is_file():
        raise CheckpointError(f"{path} is missing; the model's scores depend on it")
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or malicious pickle may raise anything
        raise CheckpointError(f"{path} cannot be read as a file of tensors: {reason(error)}") from error
    weight, bias = (saved.get("weight"), saved.get("bias")) if isinstance(saved, dict) else (None, None)
    if not isinstance(weight, torch.Tensor) or not (bias is None or isinstance(bias, torch.Tensor)):
        raise CheckpointError(f"{path} holds no tensor 'weight', which a linear layer has")
    if other := sorted(map(str, saved.keys() - {"weight", "bias"})):
        raise CheckpointError(f"{path} holds {short(other[0])}, which a linear layer does not have")
    layer = Projection(str(path), width_in, weight, bias)
    if width_out is not None and layer.width != width_out:
        raise CheckpointError(f"{path} gives vectors of width {layer.width}; the width must be {width_out}")
    return layer


def dense_layer(folder: Path, width_in: int) -> Projection:
    """A ``Dense`` module from a folder that sentence-transformers or PyLate saved.

    Args:
        width_in: width of the input.

    Raises:
        CheckpointError: weights that are missing, not in safetensors or of other shapes, or an unknown activation.
    """
    config = read_json(folder / "config.json")
    # A class outside torch is code of the model's authors, whatever its name.
    module, _, activation = str(config.get("activation_function", "torch.Tanh")).rpartition(".")
    if module.partition(".")[0] != "torch" or activation not in _ACTIVATIONS:
        raise config.wrong("activation_function", f"known are these classes of torch.nn: {', '.join(_ACTIVATIONS)}")
    saved = tensors_of(folder, ["linear.weight", "linear.bias", "residual.weight"])
    if "linear.weight" not in saved:
        pickled = "pytorch_model.bin"
        advice = f". {conversion_code(folder, pickled)}" if (folder / pickled).is_file() else ""
        raise CheckpointError(
            f"{folder} holds no 'linear.weight' in safetensors; the model's scores depend on it{advice}"
        )
    if other := sorted(names_of(folder) - saved.keys()):
        raise CheckpointError(f"{folder} holds {other[0]!r}, which no layer of sentence-transformers' Dense has")
    residual = saved.get("residual.weight", config.of("use_residual", bool, False))
    weight, bias = saved["linear.weight"], saved.get("linear.bias")
    if config.of("bias", bool, bias is not None) != (bias is not None):
        raise config.wrong("bias", f"and 'linear.bias' is {'not ' if bias is None else ''}in the weights beside it")
    layer = Projection(str(folder), width_in, weight, bias, activation=activation, residual=residual)
    for key, width in (("in_features", width_in), ("out_features", layer.width)):
        if config.of(key, int, width) != width:
            raise config.wrong(key, f"the layer's weights and the layers before it make it {width}")
    return layer


def named_layer(directory: Path, name: str, width_in: int) -> Projection:
    """A layer whose weight is saved with the encoder's, under ``name``."""
    bias = name.removesuffix("weight") + "bias"
    saved = tensors_of(directory, [name, bias])
    if name not in saved:
        raise CheckpointError(f"{directory} holds no {name!r}; the model's scores depend on it")
    return Projection(f"{directory}: the projection {name!r}", width_in, saved[name], saved.get(bias))
