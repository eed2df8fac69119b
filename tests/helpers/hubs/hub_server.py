"""A local HTTP server with the routes of the Hugging Face hub that downloads use, over folders of checkpoints.

huggingface_hub asks for the commit of a branch, the list of its files, and each file (HEAD, then GET).
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

__all__ = ["COMMIT", "Hub", "Quiet", "pointed_at", "serving"]

COMMIT = "c" * 40  # of a model that is served at no revision of its own


@dataclass
class Hub:
    """A running server.

    Attributes:
        url: value of HF_ENDPOINT.
        models: folder of each hub id.
        commits: commit of each hub id; the branch ``main`` names it.
        requests: method and path of each request.
        broken: files that the server refuses to send.
    """

    url: str
    models: Mapping[str, Path]
    commits: Mapping[str, str] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)

    def fetched(self, model: str) -> set[str]:
        """The files of a model that were downloaded, with their folders."""
        start = f"GET /{model}/resolve/"
        return {line.removeprefix(start).partition("/")[2] for line in self.requests if line.startswith(start)}

    def commit(self, model: str) -> str:
        """The only commit of a model."""
        return self.commits.get(model, COMMIT)


@contextmanager
def serving(
    models: Mapping[str, Path],
    commits: Mapping[str, str] | None = None,
    handler: type[BaseHTTPRequestHandler] | None = None,
) -> Iterator[Hub]:
    """Serve folders under hub ids until the block ends, by default as the hub of Hugging Face does."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler or _Handler)
    hub = Hub(f"http://127.0.0.1:{server.server_address[1]}", models, commits or {})
    server.hub = hub  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def pointed_at(endpoint: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make huggingface_hub of this process use an endpoint and a cache, as HF_ENDPOINT and HF_HUB_CACHE do for a new
    process; it reads its environment once, when it is imported."""
    from huggingface_hub import constants

    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    values = {"ENDPOINT": endpoint, "HUGGINGFACE_CO_URL_TEMPLATE": template, "HF_HUB_CACHE": str(cache),
              "HF_HUB_OFFLINE": False}  # fmt: skip
    for name, value in values.items():
        assert hasattr(constants, name)
        monkeypatch.setattr(constants, name, value)


class Quiet(BaseHTTPRequestHandler):
    """A handler that writes nothing to stderr."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Write nothing."""


class _Handler(Quiet):
    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        hub: Hub = self.server.hub  # type: ignore[attr-defined]
        path = unquote(urlsplit(self.path).path)
        hub.requests.append(f"{self.command} {path}")
        parts = path.strip("/").split("/")
        api = parts[:2] == ["api", "models"]
        model, rest = "/".join(parts[2:4] if api else parts[:2]), parts[4:] if api else parts[2:]
        if model not in hub.models or len(rest) < 2:
            return self._refuse("RepoNotFound")
        kind, revision, *names = rest
        commit, folder = hub.commit(model), hub.models[model]
        if revision not in ("main", commit):
            return self._refuse("RevisionNotFound")
        file = folder.joinpath(*names)
        if api and kind == "revision":
            return self._send(json.dumps({"id": model, "sha": commit, "siblings": []}).encode(), body, commit)
        if api and kind == "tree":
            listed = [_entry(path, folder) for path in sorted(folder.rglob("*")) if path.is_file()]
            return self._send(json.dumps(listed).encode(), body, commit)
        if "/".join(names) in hub.broken:
            return self._refuse("", HTTPStatus.FORBIDDEN)
        if kind != "resolve" or not file.is_file():
            return self._refuse("EntryNotFound")
        return self._send(file.read_bytes(), body, commit)

    def _send(self, content: bytes, body: bool, commit: str) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{_blob(content)}"')
        self.send_header("X-Repo-Commit", commit)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def _refuse(self, code: str, status: HTTPStatus = HTTPStatus.NOT_FOUND) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.send_header("X-Error-Code", code)
        self.end_headers()


def _entry(path: Path, folder: Path) -> dict[str, Any]:
    content = path.read_bytes()
    name = path.relative_to(folder).as_posix()
    return {"type": "file", "path": name, "size": len(content), "oid": _blob(content)}


def _blob(content: bytes) -> str:
    """Git's id of a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
