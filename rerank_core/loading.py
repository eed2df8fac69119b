"""`load`: from a name to a `Reranker`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rerank_core.backends import build, import_backend
from rerank_core.errors import CheckpointError, InputError, NonFiniteScoreError, UnknownModelError
from rerank_core.options import Options
from rerank_core.plugins import registry
from rerank_core.reranker import Reranker
from rerank_core.scorer import Scorer
from rerank_core.spec import ModelSpec
from rerank_core.spec.hub_or_folder import is_hub_id, text_of
from rerank_core.spec.untrusted_files import reading

__all__ = ["load"]


def load(name: str | os.PathLike[str], /, **options: Any) -> Reranker:
    """Load a model by name, alias, hub id, ``plugin:name`` or directory.

    A path, and a string that begins with ``./``, ``../``, ``/`` or ``~``, is always a directory. Any other string is
    first the name of a model, then a directory, then a hub id.

    Args:
        options: see `Options`; the model's own are listed by ``rerank models NAME``.

    Raises:
        UnknownModelError: no plugin, directory or hub id has this name.
        InputError: an unknown option, or a value that cannot be used.
        CheckpointError: missing, wrong or incomplete files.
        MissingDependencyError: a package that the model needs is not installed.
    """
    source = text_of(name, "the model")
    known = registry.default()
    if options.get("checkpoint") is not None:
        options["checkpoint"] = known.checkpoint(text_of(options["checkpoint"], "checkpoint"))
    try:
        spec = known.resolve(source)
    except UnknownModelError as unknown:
        if not is_hub_id(source) or registry.first_party(source):
            raise
        try:
            spec = _spec_from_hub(source, options)
        except CheckpointError as absent:
            raise UnknownModelError(f"{unknown} As a model of the hub it cannot be used either: {absent}") from absent
    chosen = Options.of(spec, options)
    reranker = Reranker(build(spec, chosen), spec, chosen, loaded=True)
    source = chosen.checkpoint or spec.checkpoint
    if source and not source.startswith("package:"):
        _try(reranker, source)
    return reranker


def _spec_from_hub(name: str, options: Mapping[str, Any]) -> ModelSpec:
    """The spec of a hub id that no plugin knows: its files say what it is, and the id is its name.

    Raises:
        CheckpointError: not found, or no reranker.
    """
    # The model's own options are known only with its spec; these two are needed to find it.
    given = Options(**{name: options[name] for name in ("revision", "offline") if name in options})
    revision = given.revision
    directory = import_backend("locate").fetch(name, revision=revision, offline=given.offline)
    return replace(registry.default().resolve(str(directory)), name=name, checkpoint=name, revision=revision)


def _try(reranker: Reranker, folder: str) -> None:
    """One short call, where weights are in this process: files that load and then fail in use are found out here, and
    not at the first request of a server.

    Raises:
        CheckpointError: whatever the folder's files make of it.
    """
    scorer = reranker.scorer
    if isinstance(scorer, Scorer):
        with contextlib.suppress(InputError, NonFiniteScoreError), reading(folder):
            reranker.rerank("a", ["b"])
