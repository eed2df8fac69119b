"""Write known_models.json and known_commands.json in rerank_core/plugins.

They map each model name and each subcommand of the first-party plugins to its distribution. Error messages take from
them the `pip install` line for a model or a command that is not installed.

    python tools/known_models.py           # with all first-party plugins installed

`make fix` runs this script; a test compares the files with the installed plugins.
"""

from __future__ import annotations

import json
from pathlib import Path

from rerank_core.plugins.discovery import PluginRecord
from rerank_core.plugins.registry import Registry

ROOT = Path(__file__).resolve().parent.parent
TABLES = ROOT / "rerank_core" / "plugins"


def _first_party_plugins() -> list[PluginRecord]:
    """The installed plugins of this repository, the trainers included."""
    names = {folder.name.replace("_", "-") for folder in (ROOT / "plugins").iterdir() if folder.is_dir()}
    return [plugin for plugin in Registry.discover().plugins if plugin.distribution in {*names, "rerank-trainers"}]


def table() -> dict[str, str]:
    """Distribution of each model name and alias."""
    return {
        name: plugin.distribution for plugin in _first_party_plugins() for spec in plugin.models for name in spec.names
    }


def commands() -> dict[str, str]:
    """Distribution of each subcommand of ``rerank``."""
    return {command.name: plugin.distribution for plugin in _first_party_plugins() for command in plugin.commands}


if __name__ == "__main__":
    for file, names in (("known_models.json", table()), ("known_commands.json", commands())):
        (TABLES / file).write_text(json.dumps(names, indent=2, sort_keys=True) + "\n", encoding="utf-8")
