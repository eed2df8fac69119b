"""The hooks a plugin can implement. A hook is added when a shipped plugin needs it, never before.

A plugin is a module named by an entry point of group ``rerank_core``. Importing it must stay cheap: no torch, no
files opened. It may set ``RERANK_API_VERSION`` to the `API_VERSION` it was written for.
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
"""Version of the hook contract. It changes only when plugins written before would break."""

hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)
"""Marks a function of a plugin module as a hook implementation."""


class HookSpecs:
    """Signatures; an implementation may leave out arguments it does not use."""

    @hookspec
    def rerank_register_models(self, register: Callable[[ModelSpec], None]) -> None:
        """Register models: call ``register(ModelSpec(...))`` once for each."""

    @hookspec(firstresult=True)
    def rerank_open_model(self, source: str) -> ModelSpec | None:
        """The model behind ``plugin:source`` where the plugin registered none of that name: a hub id or directory
        that it can make a reranker of. Only the plugin that is named is asked. None where it cannot."""

    @hookspec(firstresult=True)
    def rerank_match_checkpoint(self, directory: Path) -> ModelSpec | None:
        """The model in a checkpoint directory without ``reranker.json``, where its small files (never its path) say
        that it is of this plugin's kind. Every plugin is asked; None where it is another's. Without ``checkpoint``
        the spec is of that directory."""

    @hookspec
    def rerank_register_commands(self, register: Callable[[str, str, str], None]) -> None:
        """Add subcommands of ``rerank``: ``register("eval", "package.cli:app", "a line of help")`` for each. The Typer
        app is imported only when its command is called."""
