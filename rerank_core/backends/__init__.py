"""From a `ModelSpec` to its `Scorer`. The modules in here are imported only when a model is loaded."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

from rerank_core.backends.source_files import SourceFiles, noted
from rerank_core.errors import MissingDependencyError, PluginError, RerankError
from rerank_core.options import Options
from rerank_core.plugins.isolation import is_users_interrupt, one_line, stdout_to_stderr
from rerank_core.scorer import AnyScorer
from rerank_core.spec import ModelSpec
from rerank_core.spec.untrusted_files import reading

__all__ = ["build", "build_with_files", "import_backend"]


def build_with_files(spec: ModelSpec, options: Options) -> tuple[AnyScorer, SourceFiles]:
    """The scorer of a spec, and the files that it was read from; see `build`."""
    with noted() as files, _without_autocast():
        try:
            scorer = build(spec, options)
        except RerankError as error:
            if gguf := sys.modules.get("rerank_core.backends.gguf.folder"):
                gguf.name_file(error)
            raise
    if memory := sys.modules.get("rerank_core.backends.torch.process_memory"):
        memory.return_freed_memory()
    return scorer, files


@contextmanager
def _without_autocast() -> Iterator[None]:
    """Turn the calling thread's autocast off inside: loading compares ways to compute in the model's own dtype."""
    torch: Any = sys.modules.get("torch")  # autocast is off where torch is not imported
    with ExitStack() as off:
        for kind in () if torch is None else ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                off.enter_context(torch.autocast(kind, enabled=False))
        yield


def build(spec: ModelSpec, options: Options) -> AnyScorer:
    """Build the scorer of a spec: by the factory that ``spec.scorer`` names, else by the torch backend. Several devices
    get a copy each.

    Raises:
        MissingDependencyError: a required package is not installed.
        CheckpointError: missing, wrong or incomplete files.
        InputError: a device that cannot be used.
        PluginError: the factory failed.
    """
    if not options.several_devices:
        return _build_one(spec, options)

    def on_device(device: str, later: bool) -> AnyScorer:
        return _build_one(spec, replace(options, device=device, offline=options.offline or later))

    copies: AnyScorer = import_backend("torch.workers.copied_abilities").build_copies(
        on_device, options.device, spec.name
    )
    return copies


def _build_one(spec: ModelSpec, options: Options) -> AnyScorer:
    if spec.scorer is None:
        backend = import_backend("torch")
        with reading(options.checkpoint or spec.checkpoint):
            scorer: AnyScorer = backend.build(spec, options)
        return scorer
    module, _, factory = spec.scorer.partition(":")
    try:
        with stdout_to_stderr():
            scorer = getattr(importlib.import_module(module), factory)(spec, options)
    except RerankError:
        raise
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"{spec.name!r} is scored by {spec.scorer!r}, which needs {error.name!r}; install it"
        ) from error
    except BaseException as error:  # SystemExit and a panic of a native extension are not Exception
        if is_users_interrupt(error):
            raise
        raise PluginError(f"{spec.name!r} is scored by {spec.scorer!r}, which failed: {one_line(error)}") from error
    return scorer


def import_backend(name: str) -> Any:
    """Import a module of this folder.

    Raises:
        MissingDependencyError: a required package is missing or broken.
    """
    try:
        return importlib.import_module(f"rerank_core.backends.{name}")
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"models with local weights need {error.name or str(error)!r}, which is not installed: "
            "pip install 'rerank-core[torch]'"
        ) from error
    except (ImportError, OSError) as error:  # OSError: a shared library is missing or incompatible
        raise MissingDependencyError(
            f"a package that models with local weights need cannot be imported: {one_line(error)}; see `rerank doctor`"
        ) from error
