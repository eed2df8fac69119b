"""Write rerank_core/known_models.json: which distribution of ours brings which model, for the install hint.

    python tools/known_models.py           # with all first-party plugins installed

`make fix` runs it; a test compares the file with the installed plugins.
"""

from __future__ import annotations

import json
from pathlib import Path

from rerank_core.registry import Registry

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "rerank_core" / "known_models.json"


def table() -> dict[str, str]:
    """Every name of every model of the plugins in this repository, with its distribution."""
    ours = {folder.name.replace("_", "-") for folder in (ROOT / "plugins").iterdir() if folder.is_dir()}
    return {
        name: plugin.distribution
        for plugin in Registry.discover().plugins
        if plugin.distribution in ours
        for spec in plugin.models
        for name in spec.names
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(table(), indent=2, sort_keys=True) + "\n", encoding="utf-8")
