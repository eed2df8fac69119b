"""The modules of sentence-transformers after the pooling, which make a score or another vector of it: Dense, LayerNorm,
Normalize."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from rerank_core.backends.torch.pickle_conversion import conversion_code
from rerank_core.backends.torch.safetensors_reader import names_of, tensors_of
from rerank_core.backends.torch.side_layers.projection import dense_layer, named_layer
from rerank_core.errors import CheckpointError
from rerank_core.spec.reranker_json import inside
from rerank_core.spec.untrusted_files import JsonObject, read_json

__all__ = ["load_score_layers", "load_text_layers"]

# The name under which sentence-transformers hands a pooled text from module to module.
_POOLED = "sentence_embedding"


class UnitLength(torch.nn.Module):
    """sentence-transformers' ``Normalize``: each vector divided by its length."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(x, dim=-1)


def load_score_layers(
    directory: Path, modules: Sequence[str], width: int, *, device: torch.device
) -> torch.nn.Sequential:
    """The layers of ``Head.dense``, in float32 and eval mode: from vectors of ``width`` to one number.

    Args:
        modules: see `load_text_layers`.

    Raises:
        CheckpointError: see `load_text_layers`; or a stack that does not end in one number.
    """
    layers, width = load_text_layers(directory, modules, width, device=device)
    if width != 1:
        raise CheckpointError(f"{directory}: the modules {list(modules)!r} end in {width} numbers; a score is one")
    return layers


def load_text_layers(
    directory: Path, modules: Sequence[str], width: int, *, device: torch.device
) -> tuple[torch.nn.Sequential, int]:
    """Layers from the vector of a text to another one, in float32 and eval mode, and the width of the result.

    A folder is a ``Dense`` (its config has ``in_features``), a ``LayerNorm`` (``dimension``) or a ``Dropout``
    (``dropout``, which does nothing here); ``Normalize`` has a name and no files, or a config of names alone.

    Args:
        modules: folders inside the checkpoint, in order, or names of weights that are saved with the encoder's.
        width: width of the first layer's input.

    Raises:
        CheckpointError: a module of another kind, or weights that are missing, not in safetensors or of other shapes.
    """
    layers: list[torch.nn.Module] = []
    source = _POOLED
    for name in modules:
        folder = inside(directory, name, directory / "modules.json")
        file = folder / "config.json"
        if not folder.is_dir() and name.endswith("weight"):
            named = named_layer(directory, name, width)
            layers.append(named)
            width = named.width
            continue
        if not file.is_file() and folder.name.endswith("Normalize"):
            layers.append(UnitLength())
            continue
        config = read_json(file)
        if "in_features" in config:
            read, source = _names(config, source)
            layer = dense_layer(folder, width)
            width = layer.width
            layers.append(layer)
            continue
        read = _POOLED
        if set(config) == {"dimension"}:
            layers.append(_layer_norm(folder, config, width))
        elif folder.name.endswith("Normalize") and set(config) <= {"module_input_name", "module_output_name"}:
            read, source = _names(config, source)
            layers.append(UnitLength())
        elif set(config) != {"dropout"}:
            raise CheckpointError(
                f"{file} describes none of the modules that are known here: Dense, LayerNorm, Normalize and Dropout"
            )
        if source != read:
            raise CheckpointError(f"{file}: the module reads {read!r}, and the one before it writes {source!r}")
    return torch.nn.Sequential(*layers).to(device=device, dtype=torch.float32).eval(), width


def _names(config: JsonObject, source: str) -> tuple[str, str]:
    """What a ``Dense`` reads and writes.

    Raises:
        CheckpointError: it reads something else than ``source``, which the module before it writes.
    """
    read = config.of("module_input_name", str, _POOLED)
    if read != source:
        raise config.wrong("module_input_name", f"the module before it writes {source!r}")
    return read, config.of("module_output_name", str, read)


def _layer_norm(folder: Path, config: JsonObject, width: int) -> torch.nn.LayerNorm:
    saved = tensors_of(folder, ["norm.weight", "norm.bias"])
    if len(saved) < 2:
        pickled = "pytorch_model.bin"
        advice = f". {conversion_code(folder, pickled)}" if (folder / pickled).is_file() else ""
        raise CheckpointError(
            f"{folder} holds no 'norm.weight' and 'norm.bias' in safetensors; the model's scores depend on them{advice}"
        )
    if other := sorted(names_of(folder) - saved.keys()):
        raise CheckpointError(f"{folder} holds {other[0]!r}, which no LayerNorm of sentence-transformers has")
    shapes = {name: list(tensor.shape) for name, tensor in saved.items()}
    if config.of("dimension", int, 0) != width or any(shape != [width] for shape in shapes.values()):
        raise CheckpointError(
            f"{folder}: a LayerNorm of {config['dimension']!r} with {shapes!r} over vectors of {width}"
        )
    layer = torch.nn.LayerNorm(width)
    layer.load_state_dict({name.removeprefix("norm."): tensor for name, tensor in saved.items()})
    return layer.requires_grad_(False)
