"""A server that speaks OpenAI's chat completions, and grades passages by the words that they share with the query."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["KEY", "GradingServer", "grading_server"]

KEY = "right"
_TEXTS = re.compile(r"<query>\n(.*?)\n</query>.*<passage>\n(.*?)\n</passage>", re.DOTALL)


class GradingServer:
    """The state of the server, which tests change.

    Attributes:
        seen: the requests.
        fail: HTTP codes of the replies to the next requests.
        said: answers by passage, in place of a grade; an integer is an HTTP code.
        body: the body of every reply, where it is not None.
        slow: whether to wait before each reply.
    """

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.fail: list[int] = []
        self.said: dict[str, object] = {}
        self.body: bytes | None = None
        self.slow = threading.Event()
        self.released = threading.Event()
        self.url = ""
        self._lock = threading.Lock()

    def reply(self, asked: dict[str, Any], authorization: str) -> tuple[int, bytes]:
        """Status code and body of the reply to a request."""
        with self._lock:
            self.seen.append(asked)
            code = self.fail.pop(0) if self.fail else 200
        if self.slow.is_set():
            self.released.wait(5)
        if code == 200 and authorization != f"Bearer {KEY}":
            code = 401
        if code != 200:
            return code, json.dumps({"error": {"message": f"busy, you sent {authorization}"}}).encode()
        if self.body is not None:
            return 200, self.body
        (message,) = asked["messages"]
        query, passage = (text.split() for text in _TEXTS.search(message["content"]).groups())  # type: ignore[union-attr]
        grade = str(min(3, sum(word in passage for word in query)))
        content = self.said.get(" ".join(passage), grade)
        if isinstance(content, int):
            return content, b'{"error": {"message": "too long"}}'
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}
        made = {"id": "1", "object": "chat.completion", "created": 0, "model": asked["model"], "choices": [choice]}
        return 200, json.dumps(made).encode()


@contextmanager
def grading_server() -> Iterator[GradingServer]:
    """A server on a free port of this machine."""
    state = GradingServer()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            code, body = state.reply(asked, self.headers["Authorization"])
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("retry-after-ms", "1")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{http.server_port}/v1"
    thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.released.set()
        http.shutdown()
        http.server_close()
        thread.join()
