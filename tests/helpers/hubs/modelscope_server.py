"""A local HTTP server with the routes of ModelScope that downloads use, over folders of checkpoints.

The package modelscope-hub asks for the list of a repository's files, with their sizes and SHA-256, and for each file.
"""

from __future__ import annotations

import hashlib
import json
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from helpers.hubs.hub_server import Hub, Quiet

__all__ = ["Handler"]

BRANCH = "master"


class Handler(Quiet):
    """Of `helpers.hubs.hub_server.serving`: the only branch is ``master``, the only commit that of the `Hub`."""

    def do_GET(self) -> None:  # noqa: N802 - the base class's name
        hub: Hub = self.server.hub  # type: ignore[attr-defined]
        address = urlsplit(self.path)
        asked = {name: values[0] for name, values in parse_qs(address.query).items()}
        hub.requests.append(f"GET {address.path} {asked.get('FilePath', '')}".strip())
        parts = address.path.removeprefix("/api/v1/models/").split("/")
        model, kind = "/".join(parts[:2]), "/".join(parts[2:])
        if model not in hub.models or asked.get("Revision") not in (BRANCH, hub.commit(model)):
            return self._refuse("no such model or revision")
        folder = hub.models[model]
        if kind == "repo/files":
            listed = [_entry(path, folder) for path in sorted(folder.rglob("*"))]
            return self._send(json.dumps({"Code": 200, "Data": {"Files": [*listed, *self.more(model)]}}).encode())
        file = folder / asked.get("FilePath", "")
        if kind != "repo" or not file.is_file():
            return self._refuse("no such file")
        if asked["FilePath"] in hub.broken:
            return self._refuse("forbidden", HTTPStatus.FORBIDDEN)
        return self._send(file.read_bytes())

    def more(self, model: str) -> list[dict[str, Any]]:
        """Entries that the list has besides the files."""
        return []

    def _send(self, content: bytes, status: HTTPStatus = HTTPStatus.OK) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _refuse(self, message: str, status: HTTPStatus = HTTPStatus.NOT_FOUND) -> None:
        self._send(json.dumps({"Code": int(status), "Message": message, "Success": False}).encode(), status)


def _entry(path: Path, folder: Path) -> dict[str, Any]:
    name = path.relative_to(folder).as_posix()
    if path.is_dir():
        return {"Path": name, "Name": path.name, "Type": "tree", "Size": 0}
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return {"Path": name, "Name": path.name, "Type": "blob", "Size": len(content), "Sha256": digest}
