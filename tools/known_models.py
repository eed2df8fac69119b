"""Write rerank_core/known_models.json and known_commands.json: which distribution of ours brings which model and which
subcommand, for the install hints.

    python tools/known_models.py           # with all first-party plugins installed

`make fix` runs it; a test compares the file with the installed plugins.
"""

from __future__ import annotations

import json
from pathlib import Path

from rerank_core.plugins.discovery import PluginRecord
from rerank_core.plugins.registry import Registry

ROOT = Path(__file__).resolve().parent.parent
TABLES = ROOT / "rerank_core" / "plugins"


def _ours() -> list[PluginRecord]:
    """The plugins of this repository."""
    names = {folder.name.replace("_", "-") for folder in (ROOT / "plugins").iterdir() if folder.is_dir()}
    return [plugin for plugin in Registry.discover().plugins if plugin.distribution in {*names, "rerank-trainers"}]


def table() -> dict[str, str]:
    """Every name of every model of the plugins in this repository, with its distribution."""
    return {name: plugin.distribution for plugin in _ours() for spec in plugin.models for name in spec.names}


def commands() -> dict[str, str]:
    """Every subcommand of ``rerank`` that a plugin in this repository adds, with its distribution."""
    return {command.name: plugin.distribution for plugin in _ours() for command in plugin.commands}


if __name__ == "__main__":
    for file, made in (("known_models.json", table()), ("known_commands.json", commands())):
        (TABLES / file).write_text(json.dumps(made, indent=2, sort_keys=True) + "\n", encoding="utf-8")
