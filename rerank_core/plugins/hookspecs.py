"""The hooks that a plugin can implement. A hook is added only when a shipped plugin needs it.

A plugin is a module named by an entry point of group ``rerank_core``. Importing it must be fast: it imports no torch
and opens no files. It may set ``RERANK_API_VERSION`` to the `API_VERSION` it was written for.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from rerank_core.spec import ModelSpec

__all__ = ["API_VERSION", "GROUP", "HookSpecs", "hookimpl"]

GROUP = "rerank_core"
API_VERSION = 1
"""The version of the hook API. It changes only when existing plugins would break."""

hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)
"""Marks a function of a plugin module as a hook implementation."""


class HookSpecs:
    """The signatures of the hooks; an implementation may leave out arguments that it does not use."""

    @hookspec
    def rerank_register_models(self, register: Callable[[ModelSpec], None]) -> None:
        """Register models: call ``register(ModelSpec(...))`` once per model."""

    @hookspec(firstresult=True)
    def rerank_open_model(self, source: str) -> ModelSpec | None:
        """The model of ``plugin:source`` where the plugin registered no model named ``source``: a hub id or directory
        that the plugin can load as a reranker; None where it cannot. Only the named plugin's hook is called."""

    @hookspec(firstresult=True)
    def rerank_match_checkpoint(self, directory: Path) -> ModelSpec | None:
        """The model in a checkpoint directory without ``reranker.json``, if its small files (never its path) show that
        this plugin can load it; else None. Every plugin's hook is called. A spec without ``checkpoint`` gets that
        directory as its checkpoint."""

    @hookspec
    def rerank_register_commands(self, register: Callable[[str, str, str], None]) -> None:
        """Add subcommands of ``rerank``: call ``register("eval", "package.cli:app", "a line of help")`` for each. The
        Typer app is imported only when its command is called."""
