"""Loads the base model of a LoRA adapter's directory and merges the adapter into it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rerank_core.backends.locate import fetch
from rerank_core.backends.source_files import note
from rerank_core.backends.tokenizer import TextTokenizer
from rerank_core.backends.torch import load_weights
from rerank_core.backends.torch.decoder.heads import head_layers
from rerank_core.backends.torch.decoder.layered_model import LayeredModel
from rerank_core.backends.torch.lora.merge import AdapterTensors, adapter_tensors, merge
from rerank_core.backends.torch.lora.settings import lora_settings
from rerank_core.backends.torch.safetensors_reader import tensors_of
from rerank_core.errors import CheckpointError, short
from rerank_core.options import Options
from rerank_core.spec import Head, ModelSpec
from rerank_core.spec.folders.adapter import CONFIG, WEIGHTS, base_directory, base_name, is_adapter
from rerank_core.spec.folders.cross_encoder import contradiction
from rerank_core.spec.hub_or_folder import is_hub_id
from rerank_core.spec.reranker_json import has_spec
from rerank_core.spec.untrusted_files import read_json

__all__ = ["check_base", "merge_into", "merged", "model_folder", "tokenizer_folder"]


def model_folder(directory: Path, spec: ModelSpec, options: Options) -> Path:
    """The folder with a checkpoint's config.json: the directory itself, or for an adapter the folder of its base model,
    which is downloaded if it is a hub id.

    Raises:
        CheckpointError: no base model is named, or it is not found.
    """
    if not is_adapter(directory):
        return directory
    base = _base_folder(directory, spec, options)
    note(base, spec)
    return base


def _base_folder(directory: Path, spec: ModelSpec, options: Options) -> Path:
    name, revision = base_name(directory), read_json(directory / CONFIG).get("revision")
    if not (revision is None or isinstance(revision, str)):
        raise CheckpointError(f"{directory}: revision in {CONFIG} is {short(revision)}; it must be a string")
    if name in spec.names and is_hub_id(spec.checkpoint):
        # A local folder of the same name must not replace the files of the named model.
        return fetch(spec.checkpoint, revision=revision or spec.revision, offline=options.offline)
    local = base_directory(directory)
    if local is not None:
        return local
    pinned = spec.revision if Path(spec.checkpoint) == directory else None
    return fetch(name, revision=revision or pinned, offline=options.offline)


def check_base(spec: ModelSpec, directory: Path, base: Path) -> None:
    """Refuse an adapter whose base on the hub is a CrossEncoder with a layout of its own: the spec of the adapter was
    made before that was downloaded.

    Raises:
        CheckpointError: the base's layout is not the spec's.
    """
    if not is_adapter(directory) or has_spec(directory) or base_directory(directory) is not None:
        return
    if said := contradiction(spec, base):
        raise CheckpointError(
            f"{directory} adapts {base_name(directory)!r}, a CrossEncoder that does not score plain pairs: {said}. "
            f"Write the path of the downloaded base, {str(base)!r}, into base_model_name_or_path of {CONFIG}, so that "
            "its files are followed"
        )


def tokenizer_folder(directory: Path, spec: ModelSpec, options: Options) -> Path:
    """The folder of a checkpoint's tokenizer: the directory itself, or for an adapter without one that of its base."""
    has_tokenizer = (directory / "tokenizer.json").is_file()
    return directory if has_tokenizer else model_folder(directory, spec, options)


def merged(
    directory: Path, base: Path, kind: str, options: Options, dtype: str | None, head: Head, *, config: Any = None
) -> Any:
    """The base model with the adapter and its fully trained heads merged into the weights.

    Args:
        kind: of model: ``classifier``, ``causal``, or ``layers`` for a `LayeredModel`.
        head: the layers that have a head, for ``layers``.
        config: a transformers configuration that replaces the config.json of the base.

    Raises:
        CheckpointError: an adapter that is pickled, of a type that cannot be merged, or that does not fit its base.
    """
    settings = lora_settings(directory / CONFIG)
    tensors = adapter_tensors(directory, directory / WEIGHTS)
    config = config or load_weights.configuration(base)
    if kind == "classifier":
        config.num_labels = max(1, len(head.labels))
        config.pad_token_id = _padding(directory, config.pad_token_id)
    brought = frozenset(tensors.whole)
    module: Any = load_weights.load_module(
        base, kind, device=options.device, dtype=dtype, config=config, brought=brought
    )
    if kind == "layers":
        module = _with_heads(module, base, head, brought)
    merge(module, tensors, settings)
    return module.eval()


def merge_into(module: Any, directory: Path) -> AdapterTensors:
    """Merge the adapter of a folder into its base model in memory, and return the adapter's tensors.

    Raises:
        CheckpointError: an adapter that is pickled, of a type that cannot be merged, or that does not fit the base.
    """
    tensors = adapter_tensors(directory, directory / WEIGHTS)
    merge(module, tensors, lora_settings(directory / CONFIG))
    return tensors


def _with_heads(base: Any, directory: Path, head: Head, brought: frozenset[str]) -> LayeredModel:
    """The base model with its layer heads; heads that the adapter contains are loaded later."""
    layers = head_layers(head, len(base.layers))
    module = LayeredModel(base, layers)
    names = {f"lm_head.{number}.linear_head.weight": number for number in range(len(layers))}
    wanted = {name: (head.weights or "").replace("{i}", str(number)) for name, number in names.items()}
    tensors = tensors_of(directory, [saved for name, saved in wanted.items() if name not in brought])
    state = module.state_dict()
    missing = []
    for name, saved in wanted.items():
        if name in brought:
            continue
        if saved not in tensors:
            missing.append(saved)
        elif tensors[saved].shape != state[name].shape:
            raise CheckpointError(
                f"{directory}: {saved!r} is {list(tensors[saved].shape)}, not {list(state[name].shape)}"
            )
        else:
            state[name].copy_(tensors[saved])
    if missing:
        raise CheckpointError(
            f"neither {directory} nor the adapter has {missing[0]!r} ({len(missing)} heads in all); their scores would "
            "be random"
        )
    return module


def _padding(directory: Path, default: int | None) -> int | None:
    """The padding id of the tokenizer in an adapter's folder; a decoder classifier needs it to find a last token."""
    if not (directory / "tokenizer.json").is_file() or not (directory / "tokenizer_config.json").is_file():
        return default
    token = read_json(directory / "tokenizer_config.json").get("pad_token")
    id_ = TextTokenizer.from_directory(directory).raw.token_to_id(token) if isinstance(token, str) else None
    return default if id_ is None else id_
