"""An adapter's directory (LoRA and its kin): its base model is loaded, and the adapter merged into it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rerank_core.backends.checkpoints import fetch
from rerank_core.backends.tokens import TextTokenizer
from rerank_core.backends.torch import loading
from rerank_core.backends.torch.layered import LayeredModel
from rerank_core.backends.torch.readers import head_layers
from rerank_core.errors import CheckpointError, MissingDependencyError
from rerank_core.naming import is_hub_id
from rerank_core.options import Options
from rerank_core.spec import Head
from rerank_core.spec_file import read_json

__all__ = ["base_of", "is_adapter", "merged"]

_CONFIG = "adapter_config.json"


def is_adapter(directory: Path) -> bool:
    """Whether a directory holds an adapter and not a model."""
    return (directory / _CONFIG).is_file() and not (directory / "config.json").is_file()


def base_of(directory: Path, options: Options) -> Path:
    """The directory of the model that an adapter was trained on; fetched where it is a hub id.

    Raises:
        CheckpointError: no base is named, or it is not found.
    """
    name = read_json(directory / _CONFIG).get("base_model_name_or_path")
    if not isinstance(name, str) or not name:
        raise CheckpointError(f"{directory}: {_CONFIG} names no base_model_name_or_path")
    for place in (Path(name), directory / name):
        if place.is_dir():
            return place
    if not is_hub_id(name):
        raise CheckpointError(f"{directory}: its base model {name!r} is no directory here, and not a hub id")
    return fetch(name, revision=read_json(directory / _CONFIG).get("revision"), offline=options.offline)


def merged(directory: Path, base: Path, kind: str, options: Options, dtype: str | None, head: Head) -> Any:
    """The base model with the adapter merged into its weights, heads that were trained beside it included.

    Args:
        kind: of model: ``classifier``, ``causal``, or ``layers`` for a `LayeredModel`.
        head: says which layers the last has a score at.

    Raises:
        CheckpointError: an adapter that is pickled, or does not fit its base.
        MissingDependencyError: peft is not installed.
    """
    try:
        from peft import PeftModel
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"{directory} is an adapter, which needs peft: pip install 'rerank-core[adapters]'"
        ) from error
    brought = _brought(directory)
    config = loading.configuration(base)
    if kind == "classifier":
        config.num_labels = 1
        config.pad_token_id = _padding(directory, config.pad_token_id)
    module: Any = loading.load_module(base, kind, device=options.device, dtype=dtype, config=config, brought=brought)
    try:
        with loading.quiet():
            if kind == "layers":
                module = LayeredModel(module, head_layers(head, len(module.layers))).eval()
            adapted = PeftModel.from_pretrained(module, str(directory), is_trainable=False)
            return adapted.merge_and_unload().eval()
    except (ValueError, RuntimeError, KeyError) as error:
        raise CheckpointError(f"{directory} does not fit its base model {str(base)!r}: {error}") from error


def _brought(directory: Path) -> frozenset[str]:
    """Names of the base's weights that the adapter replaces as a whole."""
    from safetensors import SafetensorError, safe_open

    file = directory / "adapter_model.safetensors"
    if not file.is_file():
        raise CheckpointError(f"{directory} has no {file.name}; other formats can run code")
    try:
        with safe_open(str(file), framework="pt") as tensors:
            return frozenset(name.removeprefix("base_model.model.") for name in tensors.keys())  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file} cannot be read: {error}") from error


def _padding(directory: Path, otherwise: int | None) -> int | None:
    """The id of the padding token of the tokenizer beside an adapter, by which a decoder finds a row's last token."""
    if not (directory / "tokenizer.json").is_file():
        return otherwise
    token = read_json(directory / "tokenizer_config.json").get("pad_token")
    found = TextTokenizer.from_directory(directory).raw.token_to_id(token) if isinstance(token, str) else None
    return otherwise if found is None else found
