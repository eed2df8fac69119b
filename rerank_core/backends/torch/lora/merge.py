"""Merges an adapter's tensors into the layers of its base model.

Each layer takes a product and a sum. Before that, names are checked: each tensor of the file must be used, and each
tensor that the settings require must be present. peft ignores missing and surplus tensors without an error, so that an
incomplete adapter would score like its base model, or at random.
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
# Heads that peft trains and saves whole in `SEQ_CLS` models, even if the settings do not list them.
_HEADS = ("classifier", "score")
# Number of names that a message lists, and the length up to which a name is shown in full.
_SHOWN, _LONGEST = 4, 200
# Endings of tensor names, and the part of the adapter that each marks.
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
        directory: the folder of the file.
        parts: ``{layer: {"down": [rank, in], "up": [out, rank], ...}}``.
        whole: weights that replace those of the base model, by their names there.
        written: the names of tensors in the file, by layer and part or by the name of the weight.
    """

    directory: Path
    parts: Mapping[str, Mapping[str, torch.Tensor]]
    whole: Mapping[str, torch.Tensor]
    written: Mapping[str, str] = field(repr=False)

    def name(self, layer: str, part: str) -> str:
        """The name of a tensor in the file; the usual name if the file does not have it."""
        usual = next(ending for ending, ending_part in _ENDINGS.items() if ending_part == part)
        return self.written.get(f"{layer} {part}", _PREFIX + layer + usual)


def adapter_tensors(directory: Path, file: Path) -> AdapterTensors:
    """The tensors of ``adapter_model.safetensors``.

    Raises:
        CheckpointError: the file is missing or cannot be read, or a tensor does not belong to an adapter.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not file.is_file():
        raise CheckpointError(
            f"{directory} has no {file.name}; adapters in other formats are not read, since they can run code"
        )
    try:
        saved = load_file(str(file))
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file} cannot be read: {error}") from error
    parts: dict[str, dict[str, torch.Tensor]] = {}
    whole, written = {}, {}
    for name, tensor in saved.items():
        if not name.startswith(_PREFIX) or not tensor.is_floating_point():
            raise CheckpointError(
                f"{file}: {name!r} ({tensor.dtype}) is no tensor of an adapter; peft names them {_PREFIX}..., and they "
                "are floating point"
            )
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"{file}: {name} holds NaN or infinity; save the adapter again")
        path = name.removeprefix(_PREFIX)
        ending = next((each for each in _ENDINGS if path.endswith(each)), None)
        if ending is None:
            # With all biases trained, peft saves the original biases of a fully trained layer too; they are not used.
            if ".original_module." not in path:
                path = path.replace(".base_layer.", ".").replace(".modules_to_save.", ".")
                whole[path], written[path] = tensor, name
        else:
            layer, part = path.removesuffix(ending), _ENDINGS[ending]
            parts.setdefault(layer, {})[part] = tensor
            written[f"{layer} {part}"] = name
    return AdapterTensors(directory, parts, whole, written)


def merge(module: torch.nn.Module, tensors: AdapterTensors, settings: LoraSettings) -> None:
    """Merge an adapter into a module's weights, in place.

    Raises:
        CheckpointError: missing tensors, tensors that neither module nor settings account for, or wrong shapes.
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
    """Names of the layers that ``target_modules`` may select."""
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
    missing = [
        tensors.name(layer, part)
        for layer in sorted(targets)
        for part in sorted(parts)
        if part not in tensors.parts.get(layer, {})
    ]
    required = _whole_names(module, state, targets, settings)
    missing += [_PREFIX + name for name in sorted(required - tensors.whole.keys())]
    allowed = required | _optional_names(module, state, settings)
    surplus = [
        tensors.name(layer, part)
        for layer, saved in sorted(tensors.parts.items())
        for part in saved
        if layer not in targets or part not in parts
    ]
    surplus += [tensors.written[name] for name in sorted(tensors.whole.keys() - allowed)]
    if missing or surplus:
        lacks = f"lacks {len(missing)} tensors of its adapter: {_some(missing)}" if missing else ""
        holds = f"holds {len(surplus)} tensors that its {settings.file.name} does not account for: {_some(surplus)}"
        problem = "; it ".join(part for part in (lacks, holds if surplus else "") if part)
        raise CheckpointError(
            f"{tensors.directory} {problem}. Its scores would be another model's; save the adapter again"
        )


def _some(names: list[str]) -> str:
    shown = ", ".join(name if len(name) <= _LONGEST else short(name) for name in names[:_SHOWN])
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _whole_names(
    module: torch.nn.Module, state: Mapping[str, Any], targets: frozenset[str], settings: LoraSettings
) -> frozenset[str]:
    """Names of the weights that the settings require whole in the file."""
    prefixes = tuple(
        f"{name}." for name, _ in module.named_modules() if name and any(name.endswith(end) for end in settings.whole)
    )
    names = {name for name in state if prefixes and name.startswith(prefixes)}
    if settings.biases == "all":
        names |= {name for name in state if name.endswith(".bias")}
    elif settings.biases == "lora_only":
        names |= {f"{layer}.bias" for layer in targets} & state.keys()
    return frozenset(names)


def _optional_names(module: Any, state: Mapping[str, Any], settings: LoraSettings) -> frozenset[str]:
    """Names of weights that peft may save although the settings do not list them: a classifier's head, and the
    tables of adapted or resized embeddings."""
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
        kind = f"{type(layer).__name__}{' with trained norms (DoRA)' if settings.magnitudes else ''}"
        raise CheckpointError(f"{tensors.directory}: {name} is a {kind}, whose adapters are not supported")
    # Adapters use weights as [out, in]; the weights of embeddings and of GPT-2's layers are transposed.
    transposed = embedding or _is_transposed(layer)
    old = layer.weight.mT if transposed else layer.weight
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
    layer.weight = _parameter(new.mT if transposed else new, layer.weight)
    if "bias" in parts:
        added = scale * parts["bias"].to(device=old.device, dtype=torch.float32)
        bias = added if layer.bias is None else layer.bias.float() + added
        layer.bias = _parameter(bias, layer.weight)


def _replace(module: torch.nn.Module, name: str, tensor: torch.Tensor, tensors: AdapterTensors) -> None:
    """Replace a weight by a new parameter, so that a table tied to it (shared memory) does not change."""
    path, _, leaf = name.rpartition(".")
    owner = module.get_submodule(path)
    old = getattr(owner, leaf)
    if old.shape != tensor.shape:
        raise CheckpointError(
            f"{tensors.directory}: {tensors.written[name]} is {list(tensor.shape)}, and its base model has "
            f"{list(old.shape)}; merge the adapter with peft's merge_and_unload, and load the folder of merged weights"
        )
    if isinstance(old, torch.nn.Parameter):
        setattr(owner, leaf, _parameter(tensor, old))
    else:
        old.copy_(tensor)


def _parameter(values: torch.Tensor, like: torch.Tensor) -> torch.nn.Parameter:
    return torch.nn.Parameter(values.to(like).contiguous(), requires_grad=False)
