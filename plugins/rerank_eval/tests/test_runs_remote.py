"""A chat model behind an endpoint takes part: a real server, which fails once."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from rerank_eval.figures.evaluate import evaluate
from rerank_eval.runs.model_choice import choices_of
from rerank_eval.runs.run_models import Silent, run_models
from rerank_eval.sets.judged_set import JudgedSet


@pytest.fixture
def server() -> Iterator[tuple[str, list[Any]]]:
    """The URL of a server that puts the second passage first and refuses every question about word2, and what it was
    asked."""
    pytest.importorskip("openai", reason="the client library of rerank-llm[api] is not installed")
    asked: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append(request)
            text = "[2] > [1] > [3] > [4]"
            choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
            made = {
                "id": "1",
                "object": "chat.completion",
                "created": 0,
                "model": request["model"],
                "choices": [choice],
            }
            refused = "what is word2" in json.dumps(request["messages"])
            body = json.dumps({"error": {"message": "not this one"}} if refused else made).encode()
            self.send_response(400 if refused else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}/v1", asked
        http.shutdown()
        thread.join()


def test_an_endpoint_takes_part(
    server: tuple[str, list[Any]], make_set: Callable[..., JudgedSet], tmp_path: Path
) -> None:
    """Its errors are counted and shown, no call is made to warm it up, and its key is kept nowhere."""
    url, asked = server
    judged = make_set(3)
    choice = f"llm-listwise-api,base_url={url},chat_model=small,api_key=right,name=remote"
    (run,) = run_models(choices_of([choice], {}), [judged], results=tmp_path / "kept", watcher=Silent())
    assert run.stopped is None
    assert [query.scores for query in run.queries] == [(-2.0, -1.0, -3.0, -4.0), (), (-2.0, -1.0, -3.0, -4.0)]
    assert run.queries[0].statistics["windows"] == run.queries[0].statistics["well_formed"] == 1
    assert "not this one" in str(run.queries[1].error)
    assert len(asked) == 3
    assert run.options["chat_model"] == "small"
    (row,) = (row for row in evaluate([judged], [run], ["RR"]).rows if row.kind == "model")
    assert (row.failed, row.per_query["RR"]) == (1, (0.5, 0.0, 0.5))
    kept = "".join(file.read_text() for file in (tmp_path / "kept").iterdir())
    assert "right" not in kept + repr(run)
