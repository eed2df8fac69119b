"""Folders that hold an adapter (LoRA and similar) instead of a model: how to recognise them and find their base."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from rerank_core.errors import CheckpointError, UnknownModelError, short
from rerank_core.spec.folders.cross_encoder import spec_of_cross_encoder
from rerank_core.spec.folders.transformer_settings import layout_of
from rerank_core.spec.head import Head
from rerank_core.spec.hub_or_folder import is_hub_id, model_name_of
from rerank_core.spec.model_spec import ModelSpec
from rerank_core.spec.reranker_json import FILE_NAME, max_length_of, read_spec
from rerank_core.spec.untrusted_files import read_json

__all__ = ["CONFIG", "WEIGHTS", "base_directory", "base_name", "is_adapter", "spec_of_adapter"]

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"

# Files that hold all weights of a model.
_MODEL_WEIGHTS = ("model*.safetensors", "shard-*.safetensors", "model*.safetensors.index.json", "pytorch_model*.bin")


def is_adapter(directory: Path) -> bool:
    """Whether a folder holds an adapter instead of a model, by the names of its files.

    Raises:
        CheckpointError: it holds both: transformers applies the adapter to the model where peft is installed, and
            ignores the adapter where peft is missing.
    """
    if not (directory / CONFIG).is_file():
        return False
    models = [path.name for pattern in _MODEL_WEIGHTS for path in sorted(directory.glob(pattern))]
    if models and (directory / "config.json").is_file():
        raise CheckpointError(
            f"{directory} holds a whole model ({models[0]}) and an adapter ({CONFIG}), so that it can be read in two "
            f"ways. For the model, delete {CONFIG} and {WEIGHTS}; for the adapter on the base that it names, delete "
            f"{models[0]} or give a folder with only the adapter's files"
        )
    return True


def base_name(directory: Path) -> str:
    """The base model that an adapter names: a directory, a hub id or a model's name.

    Raises:
        CheckpointError: it names no base model.
    """
    name = read_json(directory / CONFIG).get("base_model_name_or_path")
    if not isinstance(name, str) or not name.strip() or "\0" in name:
        raise CheckpointError(
            f"{directory}: {CONFIG} names no base_model_name_or_path ({short(name)}); write the base model's folder or "
            "hub id there"
        )
    return name


def base_directory(directory: Path) -> Path | None:
    """The local folder that an adapter names as its base, relative to the adapter's folder or to the current directory;
    None where it names a hub id.

    Raises:
        CheckpointError: the name is neither a folder nor a hub id, or the base is an adapter itself.
    """
    name = base_name(directory)
    expanded = os.path.expanduser(name)
    for path in (directory / expanded, Path(expanded)):
        if path.is_dir():
            if is_adapter(path):
                raise CheckpointError(
                    f"{directory}: its base model {name!r} is an adapter too; merge that into its own base first, with "
                    "peft's merge_and_unload"
                )
            return path
    if not is_hub_id(name):
        raise CheckpointError(
            f"{directory}: its base model {short(name)} is neither an existing directory nor a hub id like "
            f"'owner/name'; write the path of the base model into base_model_name_or_path of {CONFIG}"
        )
    return None


def spec_of_adapter(directory: Path, known: Callable[[str], ModelSpec]) -> ModelSpec | None:
    """The spec of an adapter's folder without ``reranker.json``; None for any other folder.

    It is the spec of the adapter's base, where that is the name of an installed model, a folder with a
    ``reranker.json`` or a CrossEncoder of sentence-transformers, whose settings in the adapter's folder come before
    those of the base; else the spec of a classifier.

    Args:
        known: finds the installed spec of a model's name.

    Raises:
        CheckpointError: the adapter's base is a language model whose template and head are unknown.
    """
    if (directory / FILE_NAME).exists() or not is_adapter(directory):
        return None
    name, task = base_name(directory), read_json(directory / CONFIG).get("task_type")
    base, folder = _known(name, known), None
    if base is None:
        folder = base_directory(directory)
        base = read_spec(folder, known) if folder is not None and (folder / FILE_NAME).exists() else None
        base = base or spec_of_cross_encoder(directory, folder) or (folder and spec_of_cross_encoder(folder)) or None
    if base is not None and base.head is not None and (task == "SEQ_CLS") <= (base.head.kind == "classifier"):
        # `revision` stays, because it pins the base; the other fields about files do not apply to the adapter.
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
            f"{directory} is an adapter (task_type {short(task)}) of {short(name)}, and no file gives the template and "
            "the head that it was trained with. Load it as a model with the same template and head, "
            f"rerank_core.load(NAME, checkpoint={str(directory)!r}) (`rerank models` lists the names), or describe it "
            "with rerank_core.write_spec(spec, directory)"
        )
    file = None if folder is None else folder / "config.json"
    config = read_json(file) if file is not None and file.is_file() else {}
    tokenizer = directory if folder is None or (directory / "tokenizer_config.json").is_file() else folder
    return ModelSpec(
        name=model_name_of(directory),
        checkpoint=str(directory.resolve()),
        template=layout_of(tokenizer),
        head=Head.classifier(),
        max_length=max_length_of(tokenizer, config),
        description=f"an adapter of {name}",
    )


def _known(name: str, known: Callable[[str], ModelSpec]) -> ModelSpec | None:
    if ":" in name:
        return None
    try:
        return known(name)
    except UnknownModelError:
        return None
