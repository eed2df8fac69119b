"""Reading and writing of settings files in a folder that is being published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["read_object", "write_json"]


def read_object(path: Path) -> dict[str, Any]:
    """The object in a file; empty where the file does not exist."""
    if not path.is_file():
        return {}
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return data


def write_json(path: Path, data: object) -> None:
    """Write data as indented JSON; makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
