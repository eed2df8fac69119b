"""From a spec to its scorer: the one place that imports a backend or a plugin's code."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rerank_core import registry
from rerank_core.errors import MissingDependencyError, PluginError, RerankError
from rerank_core.isolation import described, is_users_interrupt, output_aside
from rerank_core.options import Options
from rerank_core.pipeline import AnyScorer
from rerank_core.reading import reading
from rerank_core.spec import ModelSpec

__all__ = ["build", "spec_from_hub"]


def build(spec: ModelSpec, options: Options) -> AnyScorer:
    """The scorer of a spec: its own factory's, or the torch backend's.

    Raises:
        MissingDependencyError: a package that it needs is not installed.
        CheckpointError: missing, wrong or incomplete files.
    """
    if spec.scorer is None:
        backend = _backend("torch")
        with reading(options.checkpoint or spec.checkpoint):
            scorer: AnyScorer = backend.build(spec, options)
        return scorer
    module, _, factory = spec.scorer.partition(":")
    try:
        with output_aside():
            scorer = getattr(importlib.import_module(module), factory)(spec, options)
    except RerankError:
        raise
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"{spec.name!r} is scored by {spec.scorer!r}, which needs {error.name!r}; install it"
        ) from error
    except BaseException as error:  # SystemExit and a native extension's panic are no Exception
        if is_users_interrupt(error):
            raise
        raise PluginError(f"{spec.name!r} is scored by {spec.scorer!r}, which failed: {described(error)}") from error
    return scorer


def spec_from_hub(name: str, options: Mapping[str, Any]) -> ModelSpec:
    """The spec of a hub id that no plugin knows: its files say what it is, and the id is its name.

    Raises:
        CheckpointError: not found, or no reranker.
    """
    # The model's own options are known only with its spec; these two are needed to find it.
    given = Options(**{name: options[name] for name in ("revision", "offline") if name in options})
    revision = given.revision
    directory = _backend("checkpoints").fetch(name, revision=revision, offline=given.offline)
    return replace(registry.default().resolve(str(directory)), name=name, checkpoint=name, revision=revision)


def _backend(name: str) -> Any:
    try:
        return importlib.import_module(f"rerank_core.backends.{name}")
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"models that run weights need {error.name or str(error)!r}, which is not installed: "
            "pip install 'rerank-core[torch]'"
        ) from error
    except (ImportError, OSError) as error:  # OSError: a shared library that is missing or does not fit
        raise MissingDependencyError(
            f"a package that models with weights need cannot be imported: {described(error)}; `rerank doctor` says more"
        ) from error
