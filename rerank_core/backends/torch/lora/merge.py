"""An adapter's tensors, merged into the layers that they belong to.

The arithmetic is a product and a sum for each layer; what takes care is that every tensor of the file is used, and that
none which the settings promise is absent. peft loads what it finds and says nothing of the rest, so that an adapter
without its tensors scores as its base does, or at random.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from rerank_core.backends.torch.lora.settings import LoraSettings
from rerank_core.errors import CheckpointError, short

__all__ = ["AdapterTensors", "adapter_tensors", "merge"]

_PREFIX = "base_model.model."
# Of peft's `SEQ_CLS` models, which train these whole whether or not the settings say so.
_HEADS = ("classifier", "score")
# How many names a message shows, and up to which length in full.
_SHOWN, _LONGEST = 4, 200
# What a tensor's name ends with, and its part in an adapter.
_ENDINGS = {
    ".lora_A.weight": "down",
    ".lora_B.weight": "up",
    ".lora_B.bias": "bias",
    ".lora_embedding_A": "down",
    ".lora_embedding_B": "up",
    ".lora_magnitude_vector": "norms",
    ".lora_magnitude_vector.weight": "norms",
}


@dataclass(frozen=True)
class AdapterTensors:
    """The tensors of an adapter's file.

    Attributes:
        directory: that the file is in.
        parts: ``{layer: {"down": [rank, in], "up": [out, rank], ...}}``.
        whole: weights that replace the base's, by their names in it.
        written: names of the tensors as the file has them.
    """

    directory: Path
    parts: Mapping[str, Mapping[str, torch.Tensor]]
    whole: Mapping[str, torch.Tensor]
    written: Mapping[str, str] = field(repr=False)

    def name(self, layer: str, part: str) -> str:
        """How the file calls a tensor, or would."""
        usual = next(ending for ending, own in _ENDINGS.items() if own == part)
        return self.written.get(f"{layer} {part}", _PREFIX + layer + usual)


def adapter_tensors(directory: Path, file: Path) -> AdapterTensors:
    """The tensors of ``adapter_model.safetensors``.

    Raises:
        CheckpointError: no such file, one that cannot be read, or tensors that are none of an adapter.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not file.is_file():
        raise CheckpointError(f"{directory} has no {file.name}; other formats can run code")
    try:
        found = load_file(str(file))
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file} cannot be read: {error}") from error
    parts: dict[str, dict[str, torch.Tensor]] = {}
    whole, written = {}, {}
    for name, tensor in found.items():
        if not name.startswith(_PREFIX) or not tensor.is_floating_point():
            raise CheckpointError(
                f"{file}: {name!r} ({tensor.dtype}) is no tensor of an adapter; peft names them {_PREFIX}..., and they "
                "are floating point"
            )
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"{file}: {name} holds NaN or infinity; save the adapter again")
        own = name.removeprefix(_PREFIX)
        ending = next((each for each in _ENDINGS if own.endswith(each)), None)
        if ending is None:
            # Where all biases are trained, peft saves those of a layer that is trained whole as it holds them too.
            if ".original_module." not in own:
                own = own.replace(".base_layer.", ".").replace(".modules_to_save.", ".")
                whole[own], written[own] = tensor, name
        else:
            layer, part = own.removesuffix(ending), _ENDINGS[ending]
            parts.setdefault(layer, {})[part] = tensor
            written[f"{layer} {part}"] = name
    return AdapterTensors(directory, parts, whole, written)


def merge(module: torch.nn.Module, tensors: AdapterTensors, settings: LoraSettings) -> None:
    """Change a module's weights, in place, into those that the adapter was trained to make of them.

    Raises:
        CheckpointError: tensors that the settings promise and the file has not, that nothing in the module or the
            settings asks for, or that are of another shape.
    """
    layers = dict(module.named_modules())
    targets = settings.adapted(_targetable(module, settings))
    _check_names(module, targets, tensors, settings)
    with torch.no_grad():
        for name, tensor in tensors.whole.items():
            _replace(module, name, tensor, tensors)
        for layer in sorted(targets):
            _merge_layer(layers[layer], layer, tensors, settings)


def _targetable(module: Any, settings: LoraSettings) -> Iterator[str]:
    """Names of the layers that settings can mean."""
    skipped = set()
    if settings.all_linear:
        output = module.get_output_embeddings()
        heads = [output] if output is not None else []
        if output is None and settings.task == "SEQ_CLS":
            heads = [head for name in ("score", "classifier") if (head := getattr(module, name, None)) is not None][:1]
        skipped = {id(head) for head in heads}
    for name, layer in module.named_modules():
        if name and not (settings.all_linear and (not _is_linear(layer) or id(layer) in skipped)):
            yield name


def _is_linear(layer: torch.nn.Module) -> bool:
    return isinstance(layer, torch.nn.Linear) or _is_transposed(layer)


def _is_transposed(layer: torch.nn.Module) -> bool:
    """GPT-2's linear layer, whose weight is ``[in, out]``."""
    return type(layer).__name__ == "Conv1D" and getattr(layer, "weight", torch.empty(0)).ndim == 2


def _check_names(
    module: torch.nn.Module, targets: frozenset[str], tensors: AdapterTensors, settings: LoraSettings
) -> None:
    state = module.state_dict()
    parts = {"down", "up", *(["norms"] if settings.magnitudes else []), *(["bias"] if settings.up_biases else [])}
    lost = [
        tensors.name(layer, part)
        for layer in sorted(targets)
        for part in sorted(parts)
        if part not in tensors.parts.get(layer, {})
    ]
    wanted = _whole_names(module, state, targets, settings)
    lost += [_PREFIX + name for name in sorted(wanted - tensors.whole.keys())]
    allowed = wanted | _saved_as_well(module, state, settings)
    other = [
        tensors.name(layer, part)
        for layer, found in sorted(tensors.parts.items())
        for part in found
        if layer not in targets or part not in parts
    ]
    other += [tensors.written[name] for name in sorted(tensors.whole.keys() - allowed)]
    if lost or other:
        missing = f"lacks {len(lost)} tensors of its adapter: {_some(lost)}" if lost else ""
        unasked = f"holds {len(other)} tensors that its {settings.file.name} does not account for: {_some(other)}"
        said = "; it ".join(part for part in (missing, unasked if other else "") if part)
        raise CheckpointError(
            f"{tensors.directory} {said}. Its scores would be another model's; save the adapter again"
        )


def _some(names: list[str]) -> str:
    shown = ", ".join(name if len(name) <= _LONGEST else short(name) for name in names[:_SHOWN])
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _whole_names(
    module: torch.nn.Module, state: Mapping[str, Any], targets: frozenset[str], settings: LoraSettings
) -> frozenset[str]:
    """Weights that the settings say are in the file as they are."""
    kept = tuple(
        f"{name}." for name, _ in module.named_modules() if name and any(name.endswith(own) for own in settings.whole)
    )
    found = {name for name in state if kept and name.startswith(kept)}
    if settings.biases == "all":
        found |= {name for name in state if name.endswith(".bias")}
    elif settings.biases == "lora_only":
        found |= {f"{layer}.bias" for layer in targets} & state.keys()
    return frozenset(found)


def _saved_as_well(module: Any, state: Mapping[str, Any], settings: LoraSettings) -> frozenset[str]:
    """Weights that peft may save without a word in the settings: a classifier's head, and where embeddings are adapted
    or resized their tables."""
    heads = _HEADS if settings.task == "SEQ_CLS" else ()
    tables = [table for table in (module.get_input_embeddings(), module.get_output_embeddings()) if table is not None]
    named = {name for name, layer in module.named_modules() if any(layer is table for table in tables)}
    return frozenset(
        name for name in state if name.rpartition(".")[0] in named or any(part in heads for part in name.split("."))
    )


def _merge_layer(layer: Any, name: str, tensors: AdapterTensors, settings: LoraSettings) -> None:
    parts = tensors.parts[name]
    embedding = isinstance(layer, torch.nn.Embedding)
    if not (_is_linear(layer) or embedding) or (embedding and settings.magnitudes):
        kind = f"{type(layer).__name__}{' with norms of its own' if settings.magnitudes else ''}"
        raise CheckpointError(f"{tensors.directory}: {name} is a {kind}, whose adapters are not supported")
    # As the adapter sees a weight, [out, in]: of an embedding, and of GPT-2's layer, it is the other way round.
    turned = embedding or _is_transposed(layer)
    old = layer.weight.mT if turned else layer.weight
    rank = settings.rank_of(name)
    shapes = {"down": (rank, old.shape[1]), "up": (old.shape[0], rank), "norms": (old.shape[0],), "bias": old.shape[:1]}
    for part, tensor in parts.items():
        if tensor.shape != shapes[part]:
            raise CheckpointError(
                f"{tensors.directory}: {tensors.name(name, part)} is {list(tensor.shape)}, not {list(shapes[part])}; "
                f"the adapter is of another base model, or its rank is not the {rank} of {settings.file.name}"
            )
    scale = settings.scale_of(name)
    down, up = (parts[part].to(device=old.device, dtype=torch.float32) for part in ("down", "up"))
    new = old.float() + scale * (up @ down)
    if settings.magnitudes:
        new *= (parts["norms"].to(new) / torch.linalg.norm(new, dim=1))[:, None]
    layer.weight = _parameter(new.mT if turned else new, layer.weight)
    if "bias" in parts:
        added = scale * parts["bias"].to(device=old.device, dtype=torch.float32)
        bias = added if layer.bias is None else layer.bias.float() + added
        layer.bias = _parameter(bias, layer.weight)


def _replace(module: torch.nn.Module, name: str, tensor: torch.Tensor, tensors: AdapterTensors) -> None:
    """A parameter of its own: a table that shares its memory with another layer's is trained apart from it."""
    path, _, leaf = name.rpartition(".")
    owner = module.get_submodule(path)
    old = getattr(owner, leaf)
    if old.shape != tensor.shape:
        raise CheckpointError(
            f"{tensors.directory}: {tensors.written[name]} is {list(tensor.shape)}, and its base model has "
            f"{list(old.shape)}; merge the adapter with peft's merge_and_unload, and load the folder of whole weights"
        )
    if isinstance(old, torch.nn.Parameter):
        setattr(owner, leaf, _parameter(tensor, old))
    else:
        old.copy_(tensor)


def _parameter(values: torch.Tensor, like: torch.Tensor) -> torch.nn.Parameter:
    return torch.nn.Parameter(values.to(like).contiguous(), requires_grad=False)
