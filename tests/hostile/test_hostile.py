"""What strangers hand in: tables, sets, strategies, scorers and folders that break their contracts. All are named."""

from __future__ import annotations

import json
import math
import pickle
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import rerank_core
from rerank_core import (
    CheckpointError,
    Document,
    InputError,
    ModelOption,
    NonFiniteScoreError,
    Permutation,
    PluginError,
    Reranker,
    UnknownModelError,
    write_spec,
)
from rerank_core.options import Options
from rerank_core.scorer import Output
from rerank_core.testing import FakeCascade, FakeScorer, FakeSeparate, FakeTextScorer, fake_spec

QUERY = "red panda bamboo"


def reranker(scorer: Any, **options: Any) -> Reranker:
    """A reranker around a fake."""
    return Reranker.from_scorer(scorer, fake_spec(), **options)


class Table:
    """Like a data frame: iterating over it gives its column names."""

    columns = ("id", "text")

    def __iter__(self) -> Any:
        return iter(self.columns)


@pytest.mark.parametrize(
    ("documents", "said"), [(Table(), "column"), ({"a", "b"}, "order"), (b"bytes", "wrap"), (Document("x"), "wrap")]
)
def test_things_without_an_order_are_no_documents(documents: Any, said: str) -> None:
    """A table, a set, bytes or one document are refused with the way to pass them."""
    with pytest.raises(InputError, match=said):
        reranker(FakeScorer()).rerank(QUERY, documents)


def test_messages_do_not_repeat_a_document() -> None:
    """A bad value as large as a document is cut in the message."""
    for documents in ([b"x" * 1_000_000], [{"body": "x" * 1_000_000}], [["x" * 1_000_000]]):
        with pytest.raises(InputError) as caught:
            reranker(FakeScorer()).rerank(QUERY, documents)
        assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("request_", "said"),
    [((QUERY,), "request 1"), (None, "request 1"), (("", ["x"]), "query 1"), ((QUERY, ["x", None]), "1 of query 1")],
)
def test_bad_requests_are_named_by_position(request_: Any, said: str) -> None:
    """In `rerank_many` a message says which request, query or document."""
    with pytest.raises(InputError, match=said):
        reranker(FakeScorer()).rerank_many([(QUERY, ["fine"]), request_])


def test_stream_answers_what_came_before_a_bad_request() -> None:
    """Two good requests are scores_from before the third one's error, and empty requests do not pile up."""
    stream = reranker(FakeScorer()).rerank_stream([(QUERY, ["a"]), (QUERY, ["b"]), ("", ["c"]), (QUERY, ["d"])])
    assert [next(stream).hits[0].document.text for _ in range(2)] == ["a", "b"]
    with pytest.raises(InputError, match="query 2"):
        next(stream)

    taken = []
    empty = reranker(FakeScorer()).rerank_stream((QUERY, []) for number in range(10**9) if not taken.append(number))
    next(empty)
    assert len(taken) < 5000


def test_positions_in_errors_are_the_callers() -> None:
    """A NaN names the caller's query, and for `score` the caller's pair, whatever was grouped on the way."""

    class Nan(FakeTextScorer):
        def score(self, query: str, docs: Any) -> list[float]:
            return [math.nan if doc == "bad" else 0.0 for doc in docs]

    with pytest.raises(NonFiniteScoreError, match=r"pairs \[2\]") as caught:
        reranker(Nan()).score([("a", "ok"), ("b", "ok"), ("a", "bad"), ("b", "ok")])
    assert caught.value.documents == ((2, 0),)
    with pytest.raises(InputError, match="pair 1"):
        reranker(Nan()).score([("a", "ok"), ("b", None)])


@pytest.mark.parametrize("options", [{"top_k": 1}, {"min_score": 0.5}, {"activation": "sigmoid"}])
def test_score_refuses_what_it_would_ignore(options: dict[str, Any]) -> None:
    """`score` is every raw score; an option that could only be ignored is an InputError."""
    with pytest.raises(InputError, match=next(iter(options))):
        reranker(FakeScorer()).score([(QUERY, "x")], **options)


def test_options_that_would_be_ignored_are_refused() -> None:
    """Loading options on a scorer that is there already, and row options on a text scorer, are InputErrors."""
    for name, value in {"device": "cuda", "dtype": "float16", "checkpoint": "x", "offline": True}.items():
        with pytest.raises(InputError, match=name):
            reranker(FakeScorer(), **{name: value})
    for name, value in {"longdoc": "maxp", "overlap": 3, "max_length": 9, "max_query_length": 9}.items():
        with pytest.raises(InputError, match=name):
            reranker(FakeTextScorer(), **{name: value})


class Strategy:
    """A long-document strategy that gives the windows it is told to."""

    name = "mine"

    def __init__(self, *spans: tuple[int, int]) -> None:
        self.spans = list(spans)

    def windows(self, length: int, room: int, overlap: int) -> list[tuple[int, int]]:
        return self.spans

    def combine(self, scores: Any) -> float:
        return max(scores)


@pytest.mark.parametrize("spans", [(), ((0, 200),), ((5, 3),), ((-1, 3),), ((0, 999),), ((9, 12), (0, 3))])
def test_strategies_that_give_impossible_windows_are_refused(spans: Any) -> None:
    """No window, one over the room or outside the document, or windows out of order: an InputError that shows them."""
    with pytest.raises(InputError, match="windows"):
        reranker(FakeScorer(), longdoc=Strategy(*spans)).rerank(QUERY, ["panda " * 200])


def test_strategies_that_skip_text_are_reported() -> None:
    """A window list with a hole flags the hit as truncated."""
    hole = reranker(FakeScorer(), longdoc=Strategy((0, 5), (190, 200))).rerank(QUERY, ["panda " * 200])
    whole = reranker(FakeScorer(), longdoc=Strategy((0, 5))).rerank(QUERY, ["a b c d e"])

    assert (hole[0].truncated, whole[0].truncated) == (True, False)


@pytest.mark.parametrize("overlap", [0, 5])
def test_passages_leave_no_character_out(overlap: int) -> None:
    """White space between two windows belongs to the first of them, even without overlap."""
    text = "panda " * 60 + " " * 400 + "bamboo " * 60
    passages = reranker(FakeScorer(), overlap=overlap).rerank(QUERY, [text])[0].passages

    assert len(passages) > 1
    assert (passages[0].start, passages[-1].stop) == (0, len(text))
    assert all(one.stop >= two.start for one, two in pairwise(passages))


@pytest.mark.parametrize("answer", [None, [None], ["0.5"], {"x": 1}, [[1.0], [2.0]], "ab", [1.0], 3])
def test_text_scorers_must_give_numbers(answer: Any) -> None:
    """Anything but one number a document is a PluginError that shows it."""

    class Odd:
        def score(self, query: str, docs: Any) -> Any:
            return answer

    with pytest.raises(PluginError, match="returned"):
        reranker(Odd()).rerank(QUERY, ["a", "b"])


@pytest.mark.parametrize("answer", [None, [1, 0], Permutation([0, 0]), Permutation([1, 2]), Permutation(["a", "b"])])
def test_list_rankers_must_give_permutations(answer: Any) -> None:
    """Anything but a Permutation of all positions is a PluginError."""

    class Odd:
        def rank(self, query: str, docs: Any) -> Any:
            return answer

    with pytest.raises(PluginError, match="returned"):
        reranker(Odd()).rerank(QUERY, ["a", "b"])


def test_outputs_without_scores_are_refused() -> None:
    """A scorer that answers with no score at all is a PluginError."""

    class Silent(FakeScorer):
        def forward(self, batch: Any) -> Output:
            return Output({})

    with pytest.raises(PluginError, match="no scores"):
        reranker(Silent()).rerank(QUERY, ["a"])


@pytest.mark.parametrize("keep", [[0], [-1], [2, 5]])
def test_cascades_that_keep_nobody_or_grow_are_refused(keep: list[int]) -> None:
    """Each stage keeps at least one document and no more than the one before."""
    with pytest.raises(InputError, match="cascade"):
        reranker(FakeCascade(keep)).rerank(QUERY, ["a", "b"])


def test_cascade_stages_are_visible_and_scales_do_not_mix() -> None:
    """`Hit.stage` explains the order; `min_score` across stages is refused, and so is a bare list of scores."""
    fake = reranker(FakeCascade([1]))
    assert [hit.stage for hit in fake.rerank(QUERY, ["panda", "red panda bamboo"])] == [1, 0]
    with pytest.raises(InputError, match="cascade"):
        fake.rerank(QUERY, ["panda", "red panda"], min_score=0.5)
    with pytest.raises(InputError, match="different layers"):
        fake.score([(QUERY, "panda"), (QUERY, "red panda")])


def test_index_costs_only_the_query() -> None:
    """Ranking an index is one match, and its usage is the query's tokens."""
    calls = []

    class Counting(FakeSeparate):
        def match(self, queries: Any, items: Any) -> Output:
            calls.append(len(items))
            return super().match(queries, items)

    fake = Reranker.from_scorer(Counting(token_budget=10), fake_spec())
    ranking = fake.rerank(QUERY, fake.index(["panda " * 200, "tea"] * 20))
    assert calls == [ranking.usage.passages]
    assert ranking.usage.tokens == 4


def test_pickled_index_fits_the_pickled_reranker_of_a_loaded_model() -> None:
    """An index belongs to what made it by value, so both may travel to another process."""
    mini = rerank_core.load("mini", device="cpu")
    other, index = pickle.loads(pickle.dumps((mini, mini.index(["panda", "tea"]))))
    assert other.rerank(QUERY, index).scores() == pytest.approx(mini.rerank(QUERY, ["panda", "tea"]).scores(), abs=1e-6)
    with pytest.raises(InputError, match="another reranker"):
        rerank_core.load("mini", device="cpu", max_length=99).rerank(QUERY, index)


@pytest.mark.parametrize("name", ["", "  ", "x" * 5000, "a\0b"])
def test_names_that_are_none_are_unknown(name: str) -> None:
    """An empty, endless or impossible name is an UnknownModelError, not an error of the file system."""
    with pytest.raises(UnknownModelError):
        rerank_core.load(name, offline=True)


@pytest.mark.parametrize("base", ["", ".", "here", 5, {}])
def test_base_of_a_folder_is_never_a_path(tmp_path: Path, base: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The base in an untrusted reranker.json names an installed model; a folder, even itself, is not looked at."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "here"
    folder.mkdir()
    path = write_spec(fake_spec(), folder)
    path.write_text(json.dumps({**json.loads(path.read_text()), "base": base}))
    with pytest.raises((CheckpointError, UnknownModelError)):
        rerank_core.load(folder)


def test_options_cannot_take_common_names() -> None:
    """A model that declares an option called like a common one is the plugin's mistake, and named as such."""
    spec = fake_spec(options=(ModelOption("top_k", "int", "clash", default=1),))
    with pytest.raises(PluginError, match="top_k"):
        Options.of(spec, {})
    with pytest.raises(InputError, match="depth"):
        ModelOption("depth", "int", "a default of another type", default="eight")
