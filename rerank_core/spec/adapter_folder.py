"""A folder that holds an adapter (LoRA and its kin) and not a model: what says so, and which base it names."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from rerank_core.errors import CheckpointError, UnknownModelError, short
from rerank_core.spec.head import Head
from rerank_core.spec.hub_or_folder import is_hub_id, model_name_of
from rerank_core.spec.model_spec import ModelSpec
from rerank_core.spec.reranker_json import FILE_NAME, max_length_of, read_spec
from rerank_core.spec.template import Template
from rerank_core.spec.untrusted_files import read_json

__all__ = ["CONFIG", "WEIGHTS", "base_directory", "base_name", "is_adapter", "spec_of_adapter"]

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"

# Files that hold the whole of a model.
_WHOLE = ("model*.safetensors", "shard-*.safetensors", "model*.safetensors.index.json", "pytorch_model*.bin")


def is_adapter(directory: Path) -> bool:
    """Whether a folder holds an adapter and not a model, by its files alone.

    Raises:
        CheckpointError: it holds both. transformers puts the one on top of the other where peft is installed, and
            leaves the adapter out where it is not.
    """
    if not (directory / CONFIG).is_file():
        return False
    whole = [path.name for pattern in _WHOLE for path in sorted(directory.glob(pattern))]
    if whole and (directory / "config.json").is_file():
        raise CheckpointError(
            f"{directory} holds a whole model ({whole[0]}) and an adapter ({CONFIG}), so that it can be read in two "
            f"ways. For the model, delete {CONFIG} and {WEIGHTS}; for the adapter on the base that it names, delete "
            f"{whole[0]} or give a folder with the adapter's files alone"
        )
    return True


def base_name(directory: Path) -> str:
    """The base model that an adapter names: a directory, a hub id or a model's name.

    Raises:
        CheckpointError: it names none.
    """
    name = read_json(directory / CONFIG).get("base_model_name_or_path")
    if not isinstance(name, str) or not name.strip() or "\0" in name:
        raise CheckpointError(
            f"{directory}: {CONFIG} names no base_model_name_or_path ({short(name)}); write the base model's folder or "
            "hub id there"
        )
    return name


def base_directory(directory: Path) -> Path | None:
    """The folder here that an adapter names as its base, from where it lies or from the current directory; None where
    it names a hub id.

    Raises:
        CheckpointError: neither, or a folder that holds an adapter itself.
    """
    name = base_name(directory)
    own = os.path.expanduser(name)
    for place in (directory / own, Path(own)):
        if place.is_dir():
            if is_adapter(place):
                raise CheckpointError(
                    f"{directory}: its base model {name!r} is an adapter too; merge that into its own base first, with "
                    "peft's merge_and_unload"
                )
            return place
    if not is_hub_id(name):
        raise CheckpointError(
            f"{directory}: its base model {short(name)} is no directory here, and not a hub id like 'owner/name'; "
            f"write where the base model lies into base_model_name_or_path of {CONFIG}"
        )
    return None


def spec_of_adapter(directory: Path, known: Callable[[str], ModelSpec]) -> ModelSpec | None:
    """The spec of an adapter's folder that does not describe itself: that of the base it names, where this is a model's
    name or a folder with a ``reranker.json``, else a classifier's; None for any other folder.

    Args:
        known: finds the installed spec of a model's name.

    Raises:
        CheckpointError: an adapter of a language model of which nobody says what it is asked and what it answers.
    """
    if (directory / FILE_NAME).exists() or not is_adapter(directory):
        return None
    name, task = base_name(directory), read_json(directory / CONFIG).get("task_type")
    base, here = _known(name, known), None
    if base is None:
        here = base_directory(directory)
        base = read_spec(here, known) if here is not None and (here / FILE_NAME).exists() else None
    if base is not None and base.head is not None and (task == "SEQ_CLS") <= (base.head.kind == "classifier"):
        # Whatever says where the base's files are is the base's: `revision` alone is what it is pinned to.
        return replace(
            base,
            name=model_name_of(directory),
            checkpoint=str(directory.resolve()),
            description=f"an adapter of {base.name}",
            aliases=(),
            sha256={},
            pickled=False,
        )
    if task != "SEQ_CLS":
        raise CheckpointError(
            f"{directory} is an adapter (task_type {short(task)}) of {short(name)}, and no file says what that is "
            "asked and what its answer is. Load it under the name of a model that is asked as it was trained, "
            f"rerank_core.load(NAME, checkpoint={str(directory)!r}) (`rerank models` lists them), or describe it with "
            "rerank_core.write_spec(spec, directory)"
        )
    file = None if here is None else here / "config.json"
    config = read_json(file) if file is not None and file.is_file() else {}
    texts = directory if here is None or (directory / "tokenizer_config.json").is_file() else here
    return ModelSpec(
        name=model_name_of(directory),
        checkpoint=str(directory.resolve()),
        template=Template.pair(),
        head=Head.classifier(),
        max_length=max_length_of(texts, config),
        description=f"an adapter of {name}",
    )


def _known(name: str, known: Callable[[str], ModelSpec]) -> ModelSpec | None:
    if ":" in name:
        return None
    try:
        return known(name)
    except UnknownModelError:
        return None
