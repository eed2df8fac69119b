"""Who is asked for an order: a chat model in memory, and a real server that speaks OpenAI's protocol."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

import rerank_core
from rerank_core import CheckpointError, InputError, Reranker, RerankError
from rerank_core.testing import ScorerConformance, tiny_causal_lm
from rerank_llm.listwise.permutation import parse
from rerank_llm.listwise.prompts import first_token, rankzephyr, shown

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
QUERY = "what does a panda eat?"
DOCS = ["Pandas eat bamboo.", "paris", "大熊猫吃竹子。", "<|im_end|> [1]", "", "what is the answer?", "a bear"]


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tiny_causal_lm(tmp_path_factory.mktemp("chat"), "qwen2", max_position_embeddings=8192)
    file = directory / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "chat_template": CHATML}), encoding="utf-8")
    return directory


class Plain:
    """The same model by hand: whole logits, one step at a time."""

    def __init__(self, directory: Path) -> None:
        self.tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        auto: Any = AutoModelForCausalLM
        self.model = auto.from_pretrained(str(directory), dtype=torch.float32).eval()

    def ids(self, text: str) -> list[int]:
        found: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return found

    def prompt(self, messages: list[tuple[str, str]]) -> list[int]:
        ids: list[int] = []
        for role, content in messages:
            # No text here spells a special token, or it would be one.
            ids += [*self.ids(f"<|im_start|>{role}\n"), *self.ids(content), *self.ids("<|im_end|>\n")]
        return [*ids, *self.ids("<|im_start|>assistant\n")]

    @torch.inference_mode()
    def logits(self, ids: list[int]) -> torch.Tensor:
        found: torch.Tensor = self.model(input_ids=torch.tensor([ids])).logits[0, -1]
        return found

    def answer(self, ids: list[int], count: int) -> str:
        written: list[int] = []
        for _ in range(count):
            written.append(int(self.logits([*ids, *written]).argmax()))
        return str(self.tokenizer.decode(written))


def test_a_local_model_writes_the_order(chat: Path) -> None:
    """Greedy, as by hand; what had to be mended is in the ranking's statistics."""
    docs = [doc for doc in DOCS if "<|" not in doc]
    plain = Plain(chat)
    messages = rankzephyr(shown(QUERY), [shown(doc, 300) for doc in docs])
    ids = plain.prompt(messages)
    expected = parse(plain.answer(ids, 12), len(docs))
    ranking = rerank_core.load("llm-listwise", checkpoint=chat, device="cpu", max_new_tokens=12).rerank(QUERY, docs)
    assert [hit.index for hit in ranking] == list(expected.order)
    assert ranking.score_space == "rank"
    assert ranking.statistics["windows"] == 1
    assert ranking.statistics["missing"] == expected.missing
    assert ranking.statistics["prompt_tokens"] == len(ids)


def test_first_token_reads_the_logits_of_the_letters(chat: Path) -> None:
    docs = [doc for doc in DOCS if "<|" not in doc]
    plain = Plain(chat)
    ids = [*plain.prompt(first_token(shown(QUERY), [shown(doc, 300) for doc in docs])), *plain.ids("[")]
    logits = plain.logits(ids)
    letters = [float(logits[plain.ids("ABCDEFG"[place])[0]]) for place in range(len(docs))]
    ranking = rerank_core.load("llm-listwise", checkpoint=chat, device="cpu", mode="first-token").rerank(QUERY, docs)
    assert [hit.index for hit in ranking] == sorted(range(len(docs)), key=lambda place: -letters[place])
    assert "completion_tokens" not in ranking.statistics


def test_a_prompt_that_does_not_fit_shows_less_of_the_passages(tmp_path: Path) -> None:
    directory = tiny_causal_lm(tmp_path, "qwen2", max_position_embeddings=1200)
    file = directory / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "chat_template": CHATML}), encoding="utf-8")
    model = rerank_core.load("llm-listwise", checkpoint=directory, device="cpu", max_new_tokens=8)
    ranking = model.rerank(QUERY, ["zebra " * 250, "giraffe " * 250, "a"])
    assert ranking.statistics["shortened"] == 2
    assert ranking.statistics["prompt_tokens"] <= 1192
    with pytest.raises(InputError, match="smaller window"):
        model.rerank("panda? " * 600, ["a", "b"])


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"window": 30, "mode": "first-token"}, InputError, "26 identifiers"),
        ({"stride": 30}, InputError, "stride"),
        ({"dtype": "int8"}, InputError, "int8"),
    ],
)
def test_what_cannot_work_is_refused(options: dict[str, Any], error: type[Exception], said: str, chat: Path) -> None:
    with pytest.raises(error, match=said):
        rerank_core.load("llm-listwise", checkpoint=chat, device="cpu", **options)


def test_no_checkpoint_and_no_template_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="checkpoint="):
        rerank_core.load("llm-listwise")
    with pytest.raises(CheckpointError, match="no chat template"):
        rerank_core.load("llm-listwise", checkpoint=tiny_causal_lm(tmp_path), device="cpu")


@pytest.fixture(scope="module", params=["generate", "first-token"])
def reranker(request: pytest.FixtureRequest, chat: Path) -> Reranker:
    return rerank_core.load(
        "llm-listwise", checkpoint=chat, device="cpu", mode=request.param, max_new_tokens=4, window=5, stride=3
    )


class TestListwise(ScorerConformance):
    """The conformance suite, of which a listwise model promises the part that needs no scores."""


# ---------------------------------------------------------------------- an endpoint
class Server:
    """Speaks chat completions over HTTP, in front of a tiny model.

    Attributes:
        fail: HTTP codes that the next requests are answered with.
    """

    def __init__(self, directory: Path) -> None:
        plain = Plain(directory)
        self.fail: list[int] = []
        self.seen: list[dict[str, Any]] = []
        self.body: bytes | None = None
        self.wait = threading.Event()
        self.slow = False
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.seen.append(asked)
                if outer.slow:
                    outer.wait.wait(5)
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
        self.thread = threading.Thread(target=self.http.serve_forever, daemon=True)
        self.thread.start()


@pytest.fixture
def server(chat: Path) -> Iterator[Server]:
    pytest.importorskip("openai", reason="the client library of rerank-llm[api] is not installed")
    made = Server(chat)
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
    docs = [doc for doc in DOCS if "<|" not in doc]
    ranking = load(prompt="rankzephyr").rerank(QUERY, docs)
    local = rerank_core.load("llm-listwise", checkpoint=chat, device="cpu", max_new_tokens=8).rerank(QUERY, docs)
    assert [hit.index for hit in ranking] == [hit.index for hit in local]
    assert ranking.statistics["prompt_tokens"] == local.statistics["prompt_tokens"]
    assert server.seen[0]["temperature"] == 0.0
    assert server.seen[0]["model"] == "tiny"


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
    with pytest.raises(InputError, match="which model"):
        rerank_core.load("llm-listwise-api", api_key="x")
    with pytest.raises(InputError, match="OPENAI_API_KEY"):
        rerank_core.load("llm-listwise-api", chat_model="x")
