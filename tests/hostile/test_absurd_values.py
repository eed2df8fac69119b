"""Whatever is passed to a call, it works or raises an error of this library that names the value."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rerank_core
from rerank_core import Head, InputError, KMaxP, ModelOption, Options, Reranker, RerankError, Template
from rerank_core.testing import FakeScorer, FakeSeparate, FakeTextScorer, fake_spec

QUERY = "red panda"
DOCUMENTS = ["panda " * 50, "tea"]


class NoRepr:
    """An object that cannot be shown."""

    def __repr__(self) -> str:
        raise ValueError("no repr")


class NoEquality:
    """An object that cannot be compared or hashed."""

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no equality")

    __hash__ = None  # type: ignore[assignment]


def nested(depth: int) -> list[Any]:
    """A list in a list in a list."""
    found: list[Any] = []
    for _ in range(depth):
        found = [found]
    return found


def values() -> list[Any]:
    """What nobody should pass, and somebody does."""
    found = [
        None, True, False, 0, -1, 10**30, 10**400, -(10**400), 1.5, float("nan"), float("inf"), 1j, "", "x" * 6000,
        "\0", "\ud800", b"x", [], {}, set(), (), [None], [1], ["ab"], {"a": 1}, object(), NoRepr(), NoEquality(), int,
        len, range(3), iter([1]), nested(5000), Path("x"), Head.classifier(),
    ]  # fmt: skip
    try:
        import numpy
    except ImportError:  # the core's own tests run without it
        return found
    more = [numpy.int64(3), numpy.float32(0.5), numpy.array([1, 2]), numpy.array("x"), numpy.array([]), numpy.bool_(1)]
    return [*found, *more]


joint = Reranker.from_scorer(FakeScorer("joint"), fake_spec())
separate = Reranker.from_scorer(FakeSeparate(), fake_spec())
texts = Reranker.from_scorer(FakeTextScorer(), fake_spec())
index = separate.index(DOCUMENTS)

CALL_OPTIONS = ("top_k", "min_score", "longdoc", "overlap", "activation", "progress", "explain")
LOAD_OPTIONS = (
    "checkpoint", "device", "dtype", "max_length", "max_query_length", "token_budget", "longdoc", "overlap", "compat",
    "activation", "parse_special_tokens", "revision", "offline",
)  # fmt: skip
FIELDS = (
    "name", "checkpoint", "max_length", "max_query_length", "aliases", "activation", "longdoc", "revision", "sha256",
    "pickled", "scorer", "score_space", "options", "compat", "description", "languages", "license", "template", "head",
)  # fmt: skip

CALLS: dict[str, Callable[[Any], object]] = {
    **{f"load {name}": lambda value, name=name: Options.of(fake_spec(), {name: value}) for name in LOAD_OPTIONS},
    **{
        f"from_scorer {name}": lambda value, name=name: Reranker.from_scorer(
            FakeScorer("joint"), fake_spec(), **{name: value}
        ).rerank(QUERY, DOCUMENTS)
        for name in ("max_length", "max_query_length", "token_budget", "longdoc", "overlap", "compat", "activation")
    },
    **{
        f"rerank {name} {kind}": lambda value, name=name, model=model: model.rerank(QUERY, DOCUMENTS, **{name: value})
        for name in CALL_OPTIONS
        for kind, model in (("joint", joint), ("separate", separate), ("texts", texts))
    },
    **{
        f"score {name}": lambda value, name=name: joint.score([(QUERY, "tea")], **{name: value})
        for name in CALL_OPTIONS
    },
    "query": lambda value: joint.rerank(value, DOCUMENTS),
    "documents": lambda value: joint.rerank(QUERY, value),
    "document": lambda value: texts.rerank(QUERY, ["tea", value]),
    "text": lambda value: joint.rerank(QUERY, [{"text": value}]),
    "id": lambda value: joint.rerank(QUERY, [{"text": "tea", "id": value}]).to_dict(),
    "rerank_many": lambda value: joint.rerank_many(value),
    "request": lambda value: joint.rerank_many([value]),
    "documents of a request": lambda value: joint.rerank_many([(QUERY, value)]),
    "rerank_stream": lambda value: list(joint.rerank_stream(value)),
    "request of a stream": lambda value: list(joint.rerank_stream([value])),
    "arerank": lambda value: asyncio.run(joint.arerank(value, value)),
    "pairs": lambda value: joint.score(value),
    "pair": lambda value: joint.score([value]),
    "query of a pair": lambda value: joint.score([(value, "tea")]),
    "document of a pair": lambda value: joint.score([(QUERY, value)]),
    "index": lambda value: separate.index(value),
    "index directory": lambda value: separate.index(DOCUMENTS, value),
    "index precision": lambda value: separate.index(DOCUMENTS, precision=value),
    "index progress": lambda value: separate.index(DOCUMENTS, progress=value),
    "select": lambda value: index.select(value),
    "place": lambda value: separate.rerank(QUERY, index.select([value])),
    "model": lambda value: rerank_core.load(value, offline=True),
    "revision": lambda value: rerank_core.load("no-body/nothing", offline=True, revision=value),
    # False is what asks the hub.
    "offline": lambda value: value is False or rerank_core.load("no-body/nothing", offline=value),
    **{f"spec {name}": lambda value, name=name: fake_spec(**{name: value}) for name in FIELDS if name != "name"},
    "spec name": fake_spec,
    **{
        f"template {name}": lambda value, name=name: Template(**{name: value})
        for name in ("before", "query", "between", "doc", "after", "wrap", "order", "query_marker")
    },
    "layers": lambda value: Head.layers(value),
    "label": lambda value: Head.last_token(value),
    "maxsim": lambda value: Head.maxsim(value),
    "kmaxp": lambda value: KMaxP(value),
    **{
        f"option {name}": lambda value, name=name: ModelOption(**{"name": "x", "type": "int", "help": "h", name: value})
        for name in ("name", "type", "help", "default", "when", "choices", "written")
    },
    **{
        f"value of {kind}": lambda value, kind=kind: ModelOption("x", kind, "h").check(value)
        for kind in ("int", "float", "str", "bool", "ints", "counts")
    },
}  # fmt: skip


def fault(call: Callable[[Any], object], value: Any) -> str:
    """What is wrong with how a call ends; empty where it works, or says in a message of ours why not."""
    try:
        call(value)
    except RerankError as error:
        return "" if 0 < len(str(error)) < 8000 else f"a message of {len(str(error))} characters"
    except Exception as error:  # noqa: BLE001 -- that there is none is what is tested
        return f"{type(error).__name__}: {error}"
    return ""


@pytest.mark.parametrize("name", CALLS)
def test_a_call_works_or_says_what_is_wrong(name: str) -> None:
    """No value gets an error of Python's own out of a call, nor a message as long as the value."""
    assert [found for value in values() if (found := fault(CALLS[name], value))] == []


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: joint.rerank(QUERY, DOCUMENTS, min_score=10**400), "min_score is 1000"),
        (lambda: joint.rerank(QUERY, DOCUMENTS, min_score=b"5"), "min_score is b'5'"),
        (lambda: joint.rerank(QUERY, DOCUMENTS, progress=3), "progress is 3; it must be True or False"),
        (lambda: joint.rerank(QUERY, DOCUMENTS, top_k=True), "top_k is True"),
        (lambda: joint.rerank(QUERY, set(DOCUMENTS)), "in an order"),
        (lambda: joint.rerank_many(None), "requests is None"),
        (lambda: joint.rerank_many("ab"), "requests is 'ab'"),
        (lambda: joint.rerank_many({QUERY: DOCUMENTS}), "requests is {"),
        (lambda: joint.rerank_stream(7), "requests is 7"),
        (lambda: joint.score({QUERY: "tea"}), "pairs is {"),
        (lambda: separate.index(DOCUMENTS, "a\0b"), "which no file can be called"),
        (lambda: separate.index(DOCUMENTS, 7), "directory is 7; it must be a string or a path"),
        (lambda: Reranker.from_scorer(FakeScorer("joint"), fake_spec(), compat=[]), r"compat is \[\]"),
        (lambda: Options.of(fake_spec(), {"dtype": float}), "dtype is <class 'float'>"),
        (lambda: Options.of(fake_spec(), {"revision": 5}), "revision is 5; it must be a string like 'main'"),
        (lambda: Options.of(fake_spec(), {"longdoc": KMaxP}), "longdoc is <class"),
        (lambda: rerank_core.load("no-body/nothing", offline="no"), "offline is 'no'; it must be True or False"),
        (lambda: rerank_core.load("no-body/nothing", revision=5, offline=True), "revision is 5"),
        (lambda: Options.of(fake_spec(), {"longdoc": "kmaxp:" + "9" * 5000}), "longdoc is 'kmaxp:9"),
        (lambda: ModelOption("x", "float", "h").check(float("nan")), "option x=nan must be a number"),
        (lambda: ModelOption("x", "str", "h", choices=("a",), secret=True).check("key"), r"option x=\*\*\* must be"),
    ],
)
def test_an_absurd_value_is_named(call: Callable[[], object], said: str) -> None:
    """What cannot be used is an InputError that shows the value, at the call itself."""
    with pytest.raises(InputError, match=said):
        call()


class Strategy:
    """A strategy of a stranger's, as wrong as it is told to be."""

    name = "strange"

    def __init__(self, windows: Any = ((0, 1),), combine: Callable[[Any], Any] = max) -> None:
        self._windows, self._combine = windows, combine

    def windows(self, length: int, room: int, overlap: int) -> Any:
        return self._windows

    def combine(self, scores: Any) -> Any:
        return self._combine(scores)


@pytest.mark.parametrize("given", [None, 5, "ab", [], [(0,)], [(0, "a")], [(0, 10**30)], [(-1, 2)], [(0.0, 1.0)]])
def test_windows_of_a_stranger_are_checked(given: Any) -> None:
    """A strategy that gives no windows, or none that are in the document, is an InputError that shows them."""
    with pytest.raises(InputError, match="gave the windows"):
        joint.rerank(QUERY, ["a b c"], longdoc=Strategy(given))


@pytest.mark.parametrize("given", [None, "a", [1.0], 10**400, 1j])
def test_a_strangers_combined_score_is_checked(given: Any) -> None:
    """A strategy whose score is no number is an InputError that shows it."""
    with pytest.raises(InputError, match="it must be a number"):
        joint.rerank(QUERY, ["a b c"], longdoc=Strategy(combine=lambda scores: given))


def test_an_iterable_of_any_kind_is_read() -> None:
    """What gives documents in an order is a list of documents: generators, tuples, views of a dict, columns."""
    by_id = {"a": "panda", "b": "tea"}
    for documents in ((text for text in by_id.values()), by_id.values(), tuple(by_id.values()), iter(["panda", "tea"])):
        assert [hit.index for hit in joint.rerank(QUERY, documents)] == [0, 1]
