"""`load`: from a model's name or folder to a `Reranker`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rerank_core.backends import import_backend
from rerank_core.errors import CheckpointError, InputError, NonFiniteScoreError, UnknownModelError
from rerank_core.identity.calibration import read_calibration
from rerank_core.options import Options
from rerank_core.plugins import registry
from rerank_core.reranker import Reranker, opened
from rerank_core.scorer import Scorer
from rerank_core.spec import ModelSpec
from rerank_core.spec.hub_or_folder import Remote, remote_of, text_of
from rerank_core.spec.license import is_non_commercial
from rerank_core.spec.untrusted_files import reading

__all__ = ["load"]


def load(name: str | os.PathLike[str], /, **options: Any) -> Reranker:
    """Load a model by name, alias, hub id, ``plugin:name``, directory or GGUF file.

    A path, and a string that begins with ``./``, ``../``, ``/`` or ``~``, is always a directory or a ``.gguf`` file.
    Any other string is first the name of a model, then a directory or file, then a hub id, or ``owner/name/file.gguf``
    for a file of the hub; ``modelscope:owner/name`` and ``modelscope:owner/name/file.gguf`` are on ModelScope.

    Args:
        options: see `Options`; ``rerank models NAME`` lists the options of a single model.

    Raises:
        UnknownModelError: no plugin, directory, file or hub id has this name.
        InputError: an option is unknown or has an invalid value.
        CheckpointError: the model's files are missing, wrong or incomplete.
        MissingDependencyError: a package that the model needs is not installed.
    """
    source = text_of(name, "the model")
    installed = registry.default()
    if options.get("checkpoint") is not None:
        options["checkpoint"] = installed.checkpoint(text_of(options["checkpoint"], "checkpoint"))
    try:
        spec = installed.resolve(source)
    except UnknownModelError as unknown:
        remote = remote_of(source)
        if remote is None or registry.first_party(source):
            raise
        try:
            copied = installed.copied(remote)
            if copied is not None and options.get("checkpoint") is None:
                options["checkpoint"] = source
            spec = copied or _spec_from_hub(remote, options)
        except CheckpointError as absent:
            raise UnknownModelError(f"{unknown} As a model of the hub it cannot be used either: {absent}") from absent
    load_options = Options.of(spec, options)
    if load_options.calibration is not None:
        read_calibration(str(load_options.calibration))  # a faulty file is reported before gigabytes are read
    _say_license(spec)
    reranker = opened(spec, load_options)
    source = load_options.checkpoint or spec.checkpoint
    if source and not source.startswith("package:"):
        _trial_call(reranker, source)
    return reranker


_licenses_said: set[str] = set()


def _say_license(spec: ModelSpec) -> None:
    """Log once a process that a model's licence allows no commercial use."""
    if is_non_commercial(spec.license) and spec.name not in _licenses_said:
        _licenses_said.add(spec.name)
        import logging  # most loads need it not

        log = logging.getLogger("rerank_core")
        log.warning("the weights of %r have the licence %s, which allows no commercial use", spec.name, spec.license)


def _spec_from_hub(remote: Remote, options: Mapping[str, Any]) -> ModelSpec:
    """The spec of a hub id that no plugin knows, read from its downloaded files; the hub id becomes its name. A GGUF
    file of the hub keeps its own.

    Raises:
        CheckpointError: the files are not found or are no reranker.
    """
    # The model's own options can be checked only with its spec; the download needs these two.
    fetch_options = Options(**{name: options[name] for name in ("revision", "offline") if name in options})
    revision = fetch_options.revision
    path = import_backend("locate").fetch(remote.name, revision=revision, offline=fetch_options.offline)
    spec = replace(registry.default().resolve(str(path)), checkpoint=remote.name, revision=revision)
    return spec if remote.file is not None else replace(spec, name=remote.id)


def _trial_call(reranker: Reranker, folder: str) -> None:
    """Rank one short text, if the weights are in this process, so that files which load but fail in the forward pass
    are reported now and not at the first request of a server.

    Raises:
        CheckpointError: the folder's files make the call fail.
    """
    scorer = reranker.scorer
    if isinstance(scorer, Scorer):
        with contextlib.suppress(InputError, NonFiniteScoreError), reading(folder):
            reranker.rerank("a", ["b"])
