"""Commands that plugins add: listed without importing them, imported when they are called."""

from __future__ import annotations

import importlib
from typing import Any

import typer
from typer.core import TyperCommand

from rerank_core.discovery import Command, PluginRecord
from rerank_core.errors import MissingDependencyError, PluginError
from rerank_core.registry import default

__all__ = ["command", "names"]


def names() -> list[str]:
    """The commands of all working plugins."""
    return list(default().commands())


def command(name: str) -> Any:
    """What stands for a plugin's command until it is called; None where no plugin brings it."""
    claims = default().commands().get(name)
    return _Later(name, claims) if claims else None


class _Later(TyperCommand):
    """A command known by its name and one line of help."""

    def __init__(self, name: str, claims: list[tuple[PluginRecord, Command]]) -> None:
        super().__init__(name, callback=None, help=claims[0][1].help)
        self._claims = claims

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        return self._imported().make_context(info_name, args, parent=parent, **extra)

    def _imported(self) -> Any:
        """The command itself.

        Raises:
            PluginError: several plugins claim the name, or what it names is no Typer app.
            MissingDependencyError: it needs a package that is not installed.
        """
        if len(self._claims) > 1:
            owners = ", ".join(plugin.distribution for plugin, _ in self._claims)
            raise PluginError(
                f"{owners} all bring a command {self.name!r}; uninstall all but one, or switch the others "
                "off with RERANK_DISABLE_PLUGINS"
            )
        ((plugin, claimed),) = self._claims
        module, _, attribute = claimed.target.partition(":")
        try:
            app = getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            raise MissingDependencyError(
                f"`rerank {claimed.name}` of {plugin.distribution} needs {error.name!r}; install it"
            ) from error
        except (ImportError, AttributeError) as error:
            raise PluginError(f"`rerank {claimed.name}` of {plugin.distribution} is broken: {error}") from error
        if not isinstance(app, typer.Typer):
            raise PluginError(f"`rerank {claimed.name}` of {plugin.distribution} is {app!r}, which is no Typer app")
        return typer.main.get_command(app)
