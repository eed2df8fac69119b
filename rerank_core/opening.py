"""`load`: from a name to a `Reranker`."""

from __future__ import annotations

import os
from typing import Any

from rerank_core import building, registry
from rerank_core.errors import CheckpointError, InputError, UnknownModelError, short
from rerank_core.options import Options
from rerank_core.reranker import Reranker

__all__ = ["load"]


def load(name: str | os.PathLike[str], /, **options: Any) -> Reranker:
    """Load a model by name, alias, hub id, ``plugin:name`` or directory.

    Args:
        options: see `Options`; the model's own are listed by ``rerank models NAME``.

    Raises:
        UnknownModelError: no plugin, directory or hub id has this name.
        InputError: an unknown option, or a value that cannot be used.
        CheckpointError: missing, wrong or incomplete files.
        MissingDependencyError: a package that the model needs is not installed.
    """
    if not isinstance(name, (str, os.PathLike)):
        raise InputError(f"the model is {short(name)}; it must be a name, a hub id or a directory")
    name = os.fspath(name)
    known = registry.default()
    try:
        spec = known.resolve(name)
    except UnknownModelError as unknown:
        if name.count("/") != 1 or name.startswith((".", "/", "~")) or registry.first_party(name):
            raise
        try:
            spec = building.spec_from_hub(name, options)
        except CheckpointError as absent:
            raise UnknownModelError(f"{unknown} As a model of the hub it cannot be used either: {absent}") from absent
    chosen = Options.of(spec, options)
    return Reranker(building.build(spec, chosen), spec, chosen, loaded=True)
