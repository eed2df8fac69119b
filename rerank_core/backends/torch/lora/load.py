"""An adapter's directory (LoRA and its kin): its base model is loaded, and the adapter merged into it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rerank_core.backends.locate import fetch
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
from rerank_core.spec.adapter_folder import CONFIG, WEIGHTS, base_directory, base_name, is_adapter
from rerank_core.spec.hub_or_folder import is_hub_id
from rerank_core.spec.untrusted_files import read_json

__all__ = ["merge_into", "merged", "model_folder", "tokenizer_folder"]


def model_folder(directory: Path, spec: ModelSpec, options: Options) -> Path:
    """The folder whose config.json describes a checkpoint: its own, or of an adapter its base's, which is fetched where
    it is a hub id.

    Raises:
        CheckpointError: no base is named, or it is not found.
    """
    if not is_adapter(directory):
        return directory
    name, revision = base_name(directory), read_json(directory / CONFIG).get("revision")
    if not (revision is None or isinstance(revision, str)):
        raise CheckpointError(f"{directory}: revision in {CONFIG} is {short(revision)}; it must be a string")
    if name in spec.names and is_hub_id(spec.checkpoint):
        # A folder of the same name does not stand in for the files of the model itself.
        return fetch(spec.checkpoint, revision=revision or spec.revision, offline=options.offline)
    here = base_directory(directory)
    if here is not None:
        return here
    pinned = spec.revision if Path(spec.checkpoint) == directory else None
    return fetch(name, revision=revision or pinned, offline=options.offline)


def tokenizer_folder(directory: Path, spec: ModelSpec, options: Options) -> Path:
    """The folder of a checkpoint's tokenizer: its own, or where an adapter's has none its base's."""
    own = (directory / "tokenizer.json").is_file()
    return directory if own else model_folder(directory, spec, options)


def merged(
    directory: Path, base: Path, kind: str, options: Options, dtype: str | None, head: Head, *, config: Any = None
) -> Any:
    """The base model with the adapter merged into its weights, heads that were trained beside it included.

    Args:
        kind: of model: ``classifier``, ``causal``, or ``layers`` for a `LayeredModel`.
        head: says which layers the last has a score at.
        config: the base's transformers configuration, in place of its config.json.

    Raises:
        CheckpointError: an adapter that is pickled, of a kind that cannot be merged, or does not fit its base.
    """
    settings = lora_settings(directory / CONFIG)
    tensors = adapter_tensors(directory, directory / WEIGHTS)
    config = config or load_weights.configuration(base)
    if kind == "classifier":
        config.num_labels = 1
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
    """Merge the adapter of a folder into its base, which is in memory, and return what the folder held.

    Raises:
        CheckpointError: an adapter that is pickled, of a kind that cannot be merged, or does not fit the base.
    """
    tensors = adapter_tensors(directory, directory / WEIGHTS)
    merge(module, tensors, lora_settings(directory / CONFIG))
    return tensors


def _with_heads(base: Any, directory: Path, head: Head, brought: frozenset[str]) -> LayeredModel:
    """The base with its heads, but for those that the adapter brings."""
    layers = head_layers(head, len(base.layers))
    module = LayeredModel(base, layers)
    own = {f"lm_head.{place}.linear_head.weight": place for place in range(len(layers))}
    wanted = {name: (head.weights or "").replace("{i}", str(place)) for name, place in own.items()}
    found = tensors_of(directory, [name for own_name, name in wanted.items() if own_name not in brought])
    state = module.state_dict()
    lost = []
    for name, saved in wanted.items():
        if name in brought:
            continue
        if saved not in found:
            lost.append(saved)
        elif found[saved].shape != state[name].shape:
            raise CheckpointError(
                f"{directory}: {saved!r} is {list(found[saved].shape)}, not {list(state[name].shape)}"
            )
        else:
            state[name].copy_(found[saved])
    if lost:
        raise CheckpointError(
            f"neither {directory} nor the adapter has {lost[0]!r} ({len(lost)} heads in all); their scores would be "
            "random"
        )
    return module


def _padding(directory: Path, otherwise: int | None) -> int | None:
    """The id of the padding token of the tokenizer beside an adapter, by which a decoder finds a row's last token."""
    if not (directory / "tokenizer.json").is_file() or not (directory / "tokenizer_config.json").is_file():
        return otherwise
    token = read_json(directory / "tokenizer_config.json").get("pad_token")
    found = TextTokenizer.from_directory(directory).raw.token_to_id(token) if isinstance(token, str) else None
    return otherwise if found is None else found
