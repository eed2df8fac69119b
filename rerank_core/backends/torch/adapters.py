"""An adapter's directory (LoRA and its kin): its base model is loaded, and the adapter merged into it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rerank_core.backends.checkpoints import fetch
from rerank_core.backends.torch import loading
from rerank_core.errors import CheckpointError, MissingDependencyError
from rerank_core.options import Options
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
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise CheckpointError(f"{directory}: its base model {name!r} is no directory here, and not a hub id")
    return fetch(name, revision=read_json(directory / _CONFIG).get("revision"), offline=options.offline)


def merged(directory: Path, base: Path, options: Options, dtype: str | None) -> Any:
    """The base's causal language model with the adapter merged into its weights.

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
    if not (directory / "adapter_model.safetensors").is_file():
        raise CheckpointError(f"{directory} has no adapter_model.safetensors; other formats can run code")
    module: Any = loading.load_module(base, "causal", device=options.device, dtype=dtype)
    try:
        with loading.quiet():
            adapted = PeftModel.from_pretrained(module, str(directory), is_trainable=False)
            return adapted.merge_and_unload().eval()
    except (ValueError, RuntimeError, KeyError) as error:
        raise CheckpointError(f"{directory} does not fit its base model {str(base)!r}: {error}") from error
