"""From the settings of ``model`` to the files to start from."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rerank_core import CheckpointError, Head, InputError, ModelSpec, UnknownModelError
from rerank_core.backends.locate import fetch, locate
from rerank_core.backends.tokenizer import check_tokenizer_files
from rerank_core.backends.torch.load_weights import quiet
from rerank_core.options import Options
from rerank_core.plugins import registry
from rerank_core.spec.folders.adapter import is_adapter
from rerank_core.spec.hub_or_folder import remote_of
from rerank_core.spec.reranker_json import FILE_NAME
from rerank_core.spec.untrusted_files import read_json, reading
from rerank_trainers.config.schema import ModelConfig
from rerank_trainers.model.check_kind import check_kind, unrecognised
from rerank_trainers.model.kind import ModelKind
from rerank_trainers.model.unpacked import unpacked

__all__ = ["Source", "source_of", "start_head", "tokenizer_of"]


@dataclass(frozen=True)
class Source:
    """The start of training.

    Attributes:
        directory: folder of config.json, weights and tokenizer.
        own: the spec by which the checkpoint is loaded as it is; None for a base model, and for a folder of
            sentence-transformers or transformers whose kind of model the run does not continue.
        unpacked: the checkpoint stores its weights in a format of its own, which was converted.
        follows: the model whose template, head and limits apply; None for the tokenizer's pair layout.
        follows_name: name of that model as ``plugin:model``.
    """

    directory: Path
    follows: ModelSpec | None
    follows_name: str | None
    own: ModelSpec | None = None
    unpacked: bool = False


def source_of(config: ModelConfig, kind: ModelKind) -> Source:
    """Find the files of ``model.checkpoint`` and the model of ``model.like``.

    Raises:
        InputError: no checkpoint named, or one that ranks in another way while ``model.kind`` is not set.
        UnknownModelError: ``model.like`` is not the name of an installed model.
        CheckpointError: no such directory, hub id or package.
    """
    if not config.checkpoint:
        raise InputError("model.checkpoint names nothing to start from; give a directory, a hub id or a model's name")
    known = registry.default()
    like = known.named(config.like) if config.like else None
    named: ModelSpec | None = None
    if os.path.isfile(config.checkpoint):
        raise CheckpointError(
            f"model.checkpoint {config.checkpoint!r} is a file; give the folder of config.json, safetensors and "
            "tokenizer.json. A GGUF or ONNX file holds no weights that can be trained"
        )
    directory = known.directory(config.checkpoint)
    if directory is None:
        try:
            named = known.named(config.checkpoint)
        except UnknownModelError:
            directory, named = _fetched(config, known)
        else:
            check_kind(config, known, named)  # before a download
            directory = _located(named, config, None)
    packed = named is not None and named.scorer is not None and not (directory / "config.json").is_file()
    if named is not None and packed:
        directory = unpacked(named)
    if not (directory / "config.json").is_file() and not is_adapter(directory):
        raise CheckpointError(
            f"model.checkpoint {config.checkpoint!r}: {str(directory)!r} has no config.json; a model to train is a "
            "folder of config.json, safetensors and tokenizer.json"
        )
    if is_adapter(directory):
        raise InputError(
            f"model.checkpoint {config.checkpoint!r} holds an adapter; start from its base model, or publish it first, "
            "which merges the two"
        )
    check_kind(config, known, named or directory)
    if named is None and ((directory / FILE_NAME).is_file() or kind.in_batch):
        named = _resolved(directory, known)
    own = named if named is not None and kind.serves(named) else None
    if like is None:
        like = own
    plugin = known.plugin_of(like) if like is not None else None
    if plugin is not None and like is not None:
        return Source(directory.resolve(), like, f"{plugin.name}:{like.name}", own, packed)
    # A published folder keeps the options and the code of the base that it names.
    described = like is not None and like is named and (directory / FILE_NAME).is_file()
    base = read_json(directory / FILE_NAME).get("base") if described else None
    return Source(directory.resolve(), like, base, own)


def _resolved(directory: Path, known: registry.Registry) -> ModelSpec | None:
    """The spec of a folder; None for a base model, which no plugin recognises.

    Raises:
        CheckpointError: the folder names a kind of model and cannot be read as one.
    """
    try:
        return known.resolve(str(directory.absolute()))
    except CheckpointError as error:
        if (directory / FILE_NAME).is_file() or str(error) != unrecognised(known, directory):
            raise
        return None


def _fetched(config: ModelConfig, known: registry.Registry) -> tuple[Path, ModelSpec | None]:
    """The files of a model of a hub that no plugin registers under this name, and for a repository of ModelScope the
    installed model that it copies."""
    remote = remote_of(config.checkpoint)
    if remote is None or remote.file is not None:
        raise CheckpointError(
            f"model.checkpoint is {config.checkpoint!r}: no directory, no model that is installed (`rerank models`), "
            "and not a hub id like 'owner/name' or 'modelscope:owner/name'"
        )
    named = known.copied(remote)
    if named is None:
        return fetch(config.checkpoint, revision=config.revision, offline=False), None
    check_kind(config, known, named)
    return _located(named, config, config.checkpoint), named


def _located(named: ModelSpec, config: ModelConfig, checkpoint: str | None) -> Path:
    given = {"revision": config.revision, "checkpoint": checkpoint}
    return locate(named, Options.of(named, {name: value for name, value in given.items() if value}))


def start_head(source: Source) -> Head | None:
    """The score head of the checkpoint that training starts from; None for a base model."""
    try:
        return registry.default().resolve(str(source.directory)).head
    except CheckpointError:
        return None


def tokenizer_of(directory: Path) -> Any:
    """The transformers tokenizer of a directory; it is published with the weights.

    Raises:
        CheckpointError: no readable tokenizer, or one without a tokenizer.json.
    """
    from transformers import AutoTokenizer

    check_tokenizer_files(directory)
    with reading(f"{directory}: the tokenizer", "cannot be read"), quiet():
        tokenizer = AutoTokenizer.from_pretrained(str(directory), local_files_only=True, trust_remote_code=False)
    if not getattr(tokenizer, "is_fast", False):
        raise CheckpointError(f"{directory}: rerank-core needs a tokenizer.json, and this tokenizer has none")
    return tokenizer
