"""Commands that plugins add: listed without importing them, imported when they are called."""

from __future__ import annotations

import functools
import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand

from rerank_core.errors import MissingDependencyError, PluginError, near_matches, short
from rerank_core.plugins.discovery import DISABLE, Command, PluginRecord
from rerank_core.plugins.isolation import PluginFault, isolated
from rerank_core.plugins.registry import default

__all__ = ["command", "names", "unknown", "whose"]


def names() -> list[str]:
    """The commands of all working plugins."""
    return list(default().commands())


def command(name: str) -> Any:
    """What stands for a plugin's command until it is called; None where no plugin brings it."""
    claims = default().commands().get(name)
    return _Later(name, claims) if claims else None


def whose(name: str | None) -> str:
    """A command for a message, with the distribution that brings it where that is a plugin's."""
    owners = [plugin.distribution for plugin, _ in default().commands().get(name or "", [])]
    return f"`rerank {name}` of {owners[0]}" if owners else f"`rerank {name or ''}`".replace(" `", "`")


def unknown(name: str, listed: Sequence[str]) -> str:
    """What to say of a command that is not there: the distribution that brings it, or near names."""
    parts = [f"No such command {short(name)}."]
    brings = _known_commands().get(name)
    broken = [f"{p.name} ({p.error})" for p in default().plugins if p.status not in ("ok", "disabled")]
    if brings is not None and brings not in {plugin.distribution for plugin in default().plugins}:
        parts.append(f"It comes with {brings}: pip install {brings}")
    elif brings is None and (near := near_matches(name, {*listed, *_known_commands()}, most=3)):
        parts.append(f"Did you mean {', '.join(near)}?")
    if broken:
        parts.append(f"These plugins did not load: {'; '.join(broken)}. See `rerank doctor`.")
    off = [plugin.name for plugin in default().plugins if plugin.status == "disabled"]
    if off:
        parts.append(f"{DISABLE} switches off: {', '.join(off)}.")
    return " ".join(parts)


@functools.lru_cache(maxsize=1)
def _known_commands() -> dict[str, str]:
    """Commands of our own plugins and the distribution that brings each; generated (`make fix`), for install hints."""
    file = Path(__file__).parents[1] / "plugins" / "known_commands.json"
    table: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
    return table


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
            PluginError: several plugins claim the name, its module fails, or what it names is no Typer app.
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
        me = f"`rerank {claimed.name}` of {plugin.distribution}"
        try:
            with isolated():
                app = getattr(importlib.import_module(module), attribute)
                if not isinstance(app, typer.Typer):
                    raise PluginError(f"it is {short(app)}, which is no Typer app")
                return typer.main.get_command(app)
        except PluginFault as fault:
            if isinstance(fault.error, ModuleNotFoundError):
                raise MissingDependencyError(f"{me} needs {fault.error.name!r}; install it") from fault.error
            raise PluginError(f"{me} is broken: {fault}") from fault.error
