"""`load`: from a name to a `Reranker`."""

from __future__ import annotations

import contextlib
import os
from typing import Any

from rerank_core import building, registry
from rerank_core.errors import CheckpointError, InputError, NonFiniteScoreError, UnknownModelError
from rerank_core.naming import is_hub_id, text_of
from rerank_core.options import Options
from rerank_core.reading import reading
from rerank_core.reranker import Reranker
from rerank_core.scorer import Scorer

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
            spec = building.spec_from_hub(source, options)
        except CheckpointError as absent:
            raise UnknownModelError(f"{unknown} As a model of the hub it cannot be used either: {absent}") from absent
    chosen = Options.of(spec, options)
    reranker = Reranker(building.build(spec, chosen), spec, chosen, loaded=True)
    source = chosen.checkpoint or spec.checkpoint
    if source and not source.startswith("package:"):
        _try(reranker, source)
    return reranker


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
