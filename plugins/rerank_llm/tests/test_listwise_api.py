"""A chat model behind an endpoint: a real server that speaks OpenAI's protocol, well and badly."""

from __future__ import annotations

import json
import pickle
import threading
import traceback
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import rerank_core
from rerank_core import InputError, Reranker, RerankError

QUERY = "what does a panda eat?"
DOCS = ["Pandas eat bamboo.", "paris", "大熊猫吃竹子。", "", "what is the answer?", "a bear"]


class Server:
    """Speaks chat completions over HTTP, in front of a tiny model.

    Attributes:
        fail: HTTP codes of the replies to the next requests.
    """

    def __init__(self, plain: Any) -> None:
        self.fail: list[int] = []
        self.seen: list[dict[str, Any]] = []
        self.body: bytes | None = None
        self.wait = threading.Event()
        self.slow = False
        self.repeats = False
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.seen.append(asked)
                if outer.slow:
                    outer.wait.wait(5)
                if outer.repeats:
                    said = {"error": {"message": f"you sent {self.headers['Authorization']}"}}
                    return self.reply(outer.fail.pop(0), json.dumps(said).encode())
                if self.headers["Authorization"] != "Bearer right":
                    return self.reply(401, b'{"error": {"message": "wrong key"}}')
                if outer.fail:
                    return self.reply(outer.fail.pop(0), b'{"error": {"message": "busy"}}')
                if outer.body is not None:
                    return self.reply(200, outer.body)
                ids = plain.prompt([(message["role"], message["content"]) for message in asked["messages"]])
                text = plain.answer(ids, 8)
                usage = {"prompt_tokens": len(ids), "completion_tokens": 8, "total_tokens": len(ids) + 8}
                choice = {"index": 0, "finish_reason": "length", "message": {"role": "assistant", "content": text}}
                made = {"id": "1", "object": "chat.completion", "created": 0, "model": asked["model"]}
                return self.reply(200, json.dumps({**made, "choices": [choice], "usage": usage}).encode())

            def reply(self, code: int, body: bytes) -> None:
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.send_header("retry-after-ms", "1")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()


@pytest.fixture
def server(plain: Any) -> Iterator[Server]:
    pytest.importorskip("openai", reason="the client library of rerank-llm[api] is not installed")
    made = Server(plain)
    yield made
    made.wait.set()
    made.http.shutdown()
    made.http.server_close()
    made.thread.join()


@pytest.fixture
def load(server: Server) -> Iterator[Callable[..., Reranker]]:
    opened: list[Reranker] = []

    def of(**options: Any) -> Reranker:
        given = {"chat_model": "tiny", "base_url": server.url, "api_key": "right", **options}
        opened.append(rerank_core.load("llm-listwise-api", **given))
        return opened[-1]

    yield of
    for reranker in opened:
        reranker.close()


def test_an_endpoint_orders_as_the_model_behind_it(server: Server, load: Callable[..., Reranker], chat: Path) -> None:
    docs = DOCS
    ranking = load(prompt="rankzephyr").rerank(QUERY, docs)
    local = rerank_core.load("llm-listwise", checkpoint=chat, device="cpu", max_new_tokens=8).rerank(QUERY, docs)
    assert [hit.index for hit in ranking] == [hit.index for hit in local]
    assert ranking.statistics["prompt_tokens"] == local.statistics["prompt_tokens"]
    assert server.seen[0]["temperature"] == 0.0
    assert server.seen[0]["model"] == "tiny"


def test_the_endpoint_the_model_and_the_prompt_identify_it(
    load: Callable[..., Reranker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the key, the login in the URL, or how long and how often an answer is waited for."""
    first = load().fingerprint
    monkeypatch.setenv("OPENAI_BASE_URL", "http://b/v1")
    url = load(base_url="http://b/v1").fingerprint
    assert load(base_url=None).fingerprint == load(base_url="http://me:word@b/v1").fingerprint == url != first
    for same in ({"timeout": 5.0}, {"retries": 0}, {"api_key": "another one"}):
        assert load(**same).fingerprint == first
    for other in ({"prompt": "rankgpt"}, {"chat_model": "large"}, {"window": 10, "stride": 5}, {"max_words": 30}):
        assert load(**other).fingerprint != first


def test_a_busy_server_is_asked_again(server: Server, load: Callable[..., Reranker]) -> None:
    server.fail = [500, 429]
    assert len(load(retries=2).rerank(QUERY, DOCS[:3])) == 3
    assert len(server.seen) == 3


def test_failures_say_what_happened_and_keep_the_key(server: Server, load: Callable[..., Reranker]) -> None:
    with pytest.raises(InputError, match="refuses the api_key") as caught:
        load(api_key="secret-and-wrong").rerank(QUERY, DOCS[:3])
    assert "secret" not in str(caught.value)
    server.fail = [500, 500]
    with pytest.raises(RerankError, match=r"HTTP 500: .*busy"):
        load(retries=1).rerank(QUERY, DOCS[:3])
    server.body = b'{"choices": []}'
    with pytest.raises(RerankError, match="without a choice"):
        load().rerank(QUERY, DOCS[:3])
    server.body = b"not json"
    with pytest.raises(RerankError, match="endpoint"):
        load(retries=0).rerank(QUERY, DOCS[:3])
    server.slow = True
    with pytest.raises(RerankError, match=r"no answer in 0\.2 s"):
        load(timeout=0.2, retries=0).rerank(QUERY, DOCS[:3])
    with pytest.raises(RerankError, match="cannot be reached"):
        load(base_url="http://127.0.0.1:9/v1", retries=0).rerank(QUERY, DOCS[:3])


def test_an_endpoint_needs_a_model_and_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openai", reason="the client library of rerank-llm[api] is not installed")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(InputError, match="chat_model is None; name the model"):
        rerank_core.load("llm-listwise-api", api_key="x")
    with pytest.raises(InputError, match="OPENAI_API_KEY"):
        rerank_core.load("llm-listwise-api", chat_model="x")


def completion(choices: object, **more: object) -> bytes:
    return json.dumps({"id": "1", "object": "x", "created": 0, "model": "m", "choices": choices, **more}).encode()


@pytest.mark.parametrize(
    "body",
    [b"null", b"[]", b"3", b'"x"', b"{}", b"\xff\xfe"]
    + [completion(c) for c in ("abc", {}, [None], [{}], [{"message": None}], [{"message": "x"}])]
    + [completion([{"message": {"content": content}}]) for content in (5, ["[2]"], {"text": "[2]"})],
)
def test_any_body_that_is_no_completion_is_a_typed_error(
    body: bytes, server: Server, load: Callable[..., Reranker]
) -> None:
    server.body = body
    with pytest.raises(RerankError, match="the endpoint"):
        load().rerank(QUERY, DOCS[:3])


def test_odd_usage_is_left_out(server: Server, load: Callable[..., Reranker]) -> None:
    message = [{"message": {"content": "[3] > [1] > [2]"}}]
    server.body = completion(message, usage={"prompt_tokens": "x", "completion_tokens": 7})
    ranking = load().rerank(QUERY, DOCS[:3])
    assert [hit.index for hit in ranking] == [2, 0, 1]
    assert "prompt_tokens" not in ranking.statistics
    assert ranking.statistics["completion_tokens"] == 7


@pytest.mark.parametrize("code", [400, 403, 404, 422, 500])
def test_a_key_that_the_server_repeats_is_in_no_traceback(
    code: int, server: Server, load: Callable[..., Reranker]
) -> None:
    server.fail, server.repeats = [code], True
    key = "-".join(("sk", "secret", "key"))  # in pieces: a traceback shows this line too
    with pytest.raises(RerankError, match=rf"HTTP {code}: .*you sent Bearer \*\*\*") as caught:
        load(api_key=key, retries=0).rerank(QUERY, DOCS[:3])
    assert key not in "".join(traceback.format_exception(caught.value))


def test_blanks_around_a_key_are_no_part_of_it(server: Server, load: Callable[..., Reranker]) -> None:
    """A key read from a file ends in a line break, and the client would print it where it refuses that."""
    assert len(load(api_key=" right\n").rerank(QUERY, DOCS[:3])) == 3
    for key in ("secret\nsecret", "secr\u00e9t"):
        with pytest.raises(InputError, match="copy it again") as caught:
            load(api_key=key)
        assert "secr" not in str(caught.value)


def test_a_password_in_a_url_is_not_repeated(load: Callable[..., Reranker]) -> None:
    word = "".join(("sec", "ret"))
    with pytest.raises(RerankError, match="cannot be reached") as caught:
        load(base_url=f"http://user:{word}@127.0.0.1:9/v1", retries=0).rerank(QUERY, DOCS[:3])
    assert word not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": 0.0},
        {"timeout": -1.0},
        {"timeout": float("nan")},
        {"retries": -1},
        {"max_words": 0},
        {"base_url": "http://[::1"},
    ],
)
def test_values_that_no_endpoint_can_use_are_refused(options: dict[str, Any], load: Callable[..., Reranker]) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        load(**options)


def test_a_pickled_reranker_asks_with_a_client_of_its_own(server: Server, load: Callable[..., Reranker]) -> None:
    ranker = load()
    copy = pickle.loads(pickle.dumps(ranker))
    with copy:
        assert [hit.index for hit in copy.rerank(QUERY, DOCS[:3])] == [
            hit.index for hit in ranker.rerank(QUERY, DOCS[:3])
        ]
