"""A chat model behind an endpoint as a judge: a real server, well and badly behaved."""

from __future__ import annotations

import json
import queue
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from helpers.grading_server import KEY, GradingServer, grading_server
from rerank_core import InputError, RerankError
from rerank_eval.judging.endpoint_judge import EndpointJudge
from rerank_eval.judging.judge import Pair, Verdict
from rerank_eval.judging.parallel_calls import in_parallel

pytest.importorskip("openai", reason="the client library of rerank-eval[judge] is not installed")

PAIRS = [
    Pair("pandas eat bamboo", "all pandas eat bamboo"),
    Pair("pandas eat bamboo", "bears eat fish"),
    Pair("pandas eat bamboo", "paris"),
    Pair("熊猫 吃", "大熊猫 吃 竹子", "找到答案"),
]


@pytest.fixture
def server() -> Iterator[GradingServer]:
    with grading_server() as running:
        yield running


@pytest.fixture
def judge(server: GradingServer) -> Iterator[Callable[..., EndpointJudge]]:
    made: list[EndpointJudge] = []

    def of(**options: Any) -> EndpointJudge:
        made.append(EndpointJudge(**{"url": server.url, "model": "tiny", "api_key": KEY, **options}))
        return made[-1]

    yield of
    for one in made:
        one.close()


def asked(judge: EndpointJudge, pairs: list[Pair] = PAIRS) -> list[Verdict]:
    """The verdicts in the order of the pairs."""
    found = dict(judge.verdicts(pairs))
    return [found[at] for at in range(len(pairs))]


def test_grades_are_the_servers(server: GradingServer, judge: Callable[..., EndpointJudge]) -> None:
    assert [verdict.value for verdict in asked(judge())] == [3, 1, 0, 1]
    assert {request["temperature"] for request in server.seen} == {0.0}
    assert {request["model"] for request in server.seen} == {"tiny"}
    assert sum("找到答案" in request["messages"][0]["content"] for request in server.seen) == 1
    many = [Pair("a b c", " ".join("abc"[: at % 4])) for at in range(200)]
    assert [verdict.value for verdict in asked(judge(parallel=3), many)] == [at % 4 for at in range(200)]


def test_a_busy_server_is_asked_again(server: GradingServer, judge: Callable[..., EndpointJudge]) -> None:
    server.fail = [500, 429]
    assert [verdict.value for verdict in asked(judge(parallel=1))] == [3, 1, 0, 1]
    assert len(server.seen) == 6


def test_malformed_answers_are_kept_as_such(server: GradingServer, judge: Callable[..., EndpointJudge]) -> None:
    server.said = {"paris": "The passage is not relevant.", "bears eat fish": [{"type": "text", "text": "Grade: 2"}]}
    first, second, third, _ = asked(judge())
    assert (first.value, second.value) == (3, 2)
    assert third == Verdict(None, malformed="The passage is not relevant.")


def test_a_failed_call_is_a_failed_verdict(server: GradingServer, judge: Callable[..., EndpointJudge]) -> None:
    server.fail = [400]
    first, *others = asked(judge(parallel=1))
    assert first.value is None
    assert (first.error or "").startswith(f"the endpoint '{server.url}/' answers HTTP 400: ")
    assert "busy" in (first.error or "")
    assert [verdict.value for verdict in others] == [1, 0, 1]


def test_ten_failures_in_a_row_end_the_work(server: GradingServer, judge: Callable[..., EndpointJudge]) -> None:
    server.fail = [400] * 9 + [200] + [400] * 10
    found = []
    with pytest.raises(RerankError, match=r"the judge failed 10 times in a row: the endpoint .* HTTP 400"):
        found.extend(judge(parallel=1).verdicts(PAIRS * 10))
    assert len(server.seen) < 40
    with pytest.raises(RerankError, match=r"10 times in a row: .*cannot be reached"):
        asked(judge(url="http://127.0.0.1:9/v1", retries=0), PAIRS * 4)


@pytest.mark.parametrize("code", [401, 403, 404])
def test_what_no_other_text_changes_ends_the_work(
    code: int, server: GradingServer, judge: Callable[..., EndpointJudge]
) -> None:
    server.fail = [code] * 4
    key = "-".join(("sk", "secret", "key"))  # in pieces: a traceback shows this line too
    with pytest.raises(InputError, match=rf"HTTP {code}: .*busy, you sent Bearer \*\*\*; check --judge-url") as caught:
        asked(judge(api_key=key))
    assert key not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "body",
    [b"null", b"[]", b"{}", b"\xff\xfe", b"not json"]
    + [json.dumps({"choices": choices}).encode() for choices in ("abc", [], [None], [{"message": {"content": 5}}])],
)
def test_any_body_that_is_no_completion_is_a_failed_verdict(
    body: bytes, server: GradingServer, judge: Callable[..., EndpointJudge]
) -> None:
    server.body = body
    assert all((verdict.error or "").startswith("the endpoint") for verdict in asked(judge(retries=0)))


def test_a_slow_server_is_not_waited_for(server: GradingServer, judge: Callable[..., EndpointJudge]) -> None:
    server.slow.set()
    (verdict,) = asked(judge(timeout=0.2, retries=0), PAIRS[:1])
    assert verdict.error == f"the endpoint '{server.url}/' gave no answer in 0.2 s"


def test_a_long_document_is_shortened_and_counted(server: GradingServer, judge: Callable[..., EndpointJudge]) -> None:
    pairs = [Pair("end", "x " * 50 + "end"), Pair("end", "the end")]
    assert asked(judge(max_characters=20), pairs) == [Verdict(0, shortened=True), Verdict(1)]
    assert judge(max_characters=20).identity != judge().identity
    assert judge(api_key="other").identity == judge().identity


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": " "}, "name the model with --judge-model"),
        ({"parallel": 0}, "parallel of the judge is 0"),
        ({"timeout": float("nan")}, "timeout of the judge is nan"),
        ({"url": "http://[::1"}, "--judge-url is 'http://"),
        ({"api_key": "a\nb"}, "copy it again"),
    ],
)
def test_unusable_values_are_refused(
    options: dict[str, Any], message: str, judge: Callable[..., EndpointJudge]
) -> None:
    with pytest.raises(InputError, match=message):
        judge(**options)


def test_a_local_server_needs_no_key(monkeypatch: pytest.MonkeyPatch, judge: Callable[..., EndpointJudge]) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(InputError, match="you sent Bearer none"):
        asked(judge(api_key=None))
    monkeypatch.setenv("OPENAI_API_KEY", f" {KEY}\n")
    assert [verdict.value for verdict in asked(judge(api_key=None))] == [3, 1, 0, 1]


def test_a_stopped_caller_waits_for_no_call() -> None:
    """Two calls of four run, and hang; the others never start, also after these have ended."""
    started: queue.SimpleQueue[str] = queue.SimpleQueue()
    release = threading.Event()

    def call(item: str) -> str:
        started.put(item)
        if item != "now":
            release.wait(60)
        return item

    calls = in_parallel(call, ["now", "hangs", "hangs", "never", "never"], 2)
    assert next(calls) == (0, "now")
    assert [started.get(timeout=30) for _ in range(3)] == ["now", "hangs", "hangs"]
    before = time.monotonic()
    calls.close()  # type: ignore[attr-defined]
    assert time.monotonic() - before < 5
    release.set()
    with pytest.raises(queue.Empty):
        started.get(timeout=0.2)


def test_the_error_of_a_call_is_raised() -> None:
    assert sorted(in_parallel(len, ["", "a", "bb"], 2)) == [(0, 0), (1, 1), (2, 2)]
    with pytest.raises(TypeError):
        list(in_parallel(len, [1], 2))  # type: ignore[list-item]
