"""A teacher's scores: those of serving, whatever kind of reranker it is, in the order of rows."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

import rerank_core
from rerank_core import Reranker
from rerank_core.errors import InputError, NonFiniteScoreError
from rerank_core.records.training_row import TrainingRow
from rerank_core.scorer import Permutation
from rerank_core.testing import (
    FakeCascade,
    FakeListRanker,
    FakeTextScorer,
    fake_spec,
    tiny_causal_lm,
    tiny_cross_encoder,
)
from rerank_trainers.teachers.label import LabellingStatistics, label

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
ROWS = [
    TrainingRow("what does a panda eat?", ("A panda eats bamboo.", "My bicycle is flat.", ""), (1.0, 0.0, 0.0), id="a"),
    TrainingRow("熊猫吃什么？", ("大熊猫每天吃很多竹子。", "法国的首都是巴黎。"), scores=(0.9, 0.1), source="zh"),
    TrainingRow(
        "capital of France", ("Paris " * 700, "The capital of France is Paris."), instruction="Find facts", id="c"
    ),
    TrainingRow("what does a panda eat?", ("Bamboo.",), (1.0,), instruction="Find food", id="d"),
    TrainingRow("bamboo", tuple(f"Bamboo number {n}." for n in range(9)), id="e"),
]


@pytest.fixture(scope="module")
def cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> Reranker:
    """Random weights and a real tokenizer; its scores are logits."""
    return rerank_core.load(tiny_cross_encoder(tmp_path_factory.mktemp("tiny")), device="cpu")


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Reranker:
    """A tiny chat model asked about relevance, which follows instructions."""
    directory = tiny_causal_lm(tmp_path_factory.mktemp("chat"), "qwen2", max_position_embeddings=8192)
    file = directory / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "chat_template": CHATML}), encoding="utf-8")
    return rerank_core.load(f"llm:{directory}", device="cpu")


@pytest.fixture(scope="module")
def mini() -> Reranker:
    """The real small late-interaction model."""
    return rerank_core.load("mini", device="cpu")


class Broken:
    """A remote API that fails for one text."""

    def score(self, query: str, docs: Sequence[str]) -> list[float]:
        return [math.nan if "bicycle" in doc else 1.0 for doc in docs]


def alone(reranker: Reranker, row: TrainingRow, **options: Any) -> list[float]:
    """The scores of one row, asked for by itself."""
    return reranker.rerank(row.query, row.docs, activation="none", **options).scores()


@pytest.mark.parametrize("kind", ["cross_encoder", "mini"])
def test_scores_are_raw_and_in_order(kind: str, request: pytest.FixtureRequest) -> None:
    """Every document gets the raw score that serving gives it, and nothing else of a row changes."""
    reranker: Reranker = request.getfixturevalue(kind)
    figures = LabellingStatistics()
    labelled = list(label(iter(ROWS), reranker, statistics=figures))
    assert [replace(row, scores=None) for row in labelled] == [replace(row, scores=None) for row in ROWS]
    for before, after in zip(ROWS, labelled, strict=True):
        assert after.scores == pytest.approx(alone(reranker, before), abs=1e-5)
    everything = [score for row in labelled for score in row.scores or ()]
    assert (figures.lowest, figures.highest) == (min(everything), max(everything))
    assert figures.mean == pytest.approx(sum(everything) / len(everything))
    assert (figures.rows, figures.documents, figures.replaced, figures.instructions_ignored) == (5, 17, 1, 2)
    assert figures.model == reranker.spec.name
    assert figures.score_space == reranker.spec.raw_space


def test_sigmoid_is_of_the_same_scores(cross_encoder: Reranker, mini: Reranker) -> None:
    """activation='sigmoid' gives probabilities of logits, and is refused for scores that are none."""
    raw = [score for row in label(ROWS, cross_encoder) for score in row.scores or ()]
    figures = LabellingStatistics()
    soft = [
        score
        for row in label(ROWS, cross_encoder, activation="sigmoid", statistics=figures)
        for score in row.scores or ()
    ]
    assert soft == pytest.approx([1 / (1 + math.exp(-score)) for score in raw], abs=1e-12)
    assert figures.score_space == "probability"
    with pytest.raises(InputError, match="needs logits"):
        list(label(ROWS, mini, activation="sigmoid"))


def test_a_run_that_starts_anywhere_gives_the_same_bits(cross_encoder: Reranker) -> None:
    """What an interrupted run left is labelled as the uninterrupted one does it, to the last bit."""
    whole = list(label(ROWS, cross_encoder, together=5))
    for start in range(len(ROWS) + 1):
        figures = LabellingStatistics()
        assert list(label(ROWS, cross_encoder, start=start, together=5, statistics=figures)) == whole[start:]
        assert figures.rows == len(ROWS) - start


@pytest.mark.parametrize("together", [1, 4, 10**6])
def test_how_many_rows_are_scored_together_does_not_matter(cross_encoder: Reranker, together: int) -> None:
    """Scores agree to 1e-5 whatever shares a plan, and no more rows are read than a plan needs."""
    read: list[str] = []

    def rows() -> Any:
        for row in ROWS:
            read.append(row.query)
            yield row

    labelled = label(rows(), cross_encoder, together=together)
    first = next(labelled)
    assert len(read) == {1: 1, 4: 2}.get(together, 5)
    for before, after in zip(ROWS, [first, *labelled], strict=True):
        assert after.scores == pytest.approx(alone(cross_encoder, before), abs=1e-5)


def test_a_chat_model_is_given_each_rows_instruction(chat: Reranker) -> None:
    """Rows with an instruction are scored under it, the others under what the call says, and none is ignored."""
    figures = LabellingStatistics()
    labelled = list(label(ROWS, chat, statistics=figures, instruction="Be strict"))
    for before, after in zip(ROWS, labelled, strict=True):
        own = before.instruction or "Be strict"
        assert after.scores == pytest.approx(alone(chat, before, instruction=own), abs=1e-4)
    assert labelled[3].scores != pytest.approx(alone(chat, ROWS[3], instruction="Be strict"), abs=1e-3)
    assert (figures.instructions_ignored, figures.score_space) == (0, "logit")


def test_a_listwise_model_gives_minus_the_rank() -> None:
    """The best document has -1, the next -2, in the caller's order; the statistics say that these are ranks."""
    lists = Reranker.from_scorer(FakeListRanker(), fake_spec("lists"))
    figures = LabellingStatistics()
    labelled = list(label(ROWS, lists, statistics=figures))

    for before, after in zip(ROWS, labelled, strict=True):
        worth = FakeTextScorer().score(before.query, before.docs)
        ranks = [-score for score in after.scores or ()]
        assert sorted(ranks) == list(range(1, len(before.docs) + 1))
        assert [worth[doc] for doc in sorted(range(len(ranks)), key=ranks.__getitem__)] == sorted(worth, reverse=True)
    assert figures.score_space == "rank"
    assert (figures.answers, figures.malformed_share) == (0, None)


class Indifferent:
    """A listwise model that changes nothing, as one does that has learned nothing; it counts its answers."""

    def __init__(self) -> None:
        self.shown: list[tuple[str, ...]] = []

    def rank(self, query: str, docs: Sequence[str]) -> Permutation:
        self.shown.append(tuple(docs))
        return Permutation(range(len(docs)), {"windows": 1, "well_formed": 0, "unread": 1, "shortened": 1})


def test_a_listwise_model_is_shown_documents_in_an_order_drawn_by_chance(caplog: pytest.LogCaptureFixture) -> None:
    """What a model does not order is not in the rows' order, where relevant documents stand first; a row is always
    shown alike, wherever a run starts; and malformed answers are counted and told."""
    rows = [TrainingRow(f"question {n}", ("relevant", "b", "c", "d"), (1.0, 0.0, 0.0, 0.0)) for n in range(60)]
    model, figures = Indifferent(), LabellingStatistics()
    labelled = list(label(rows, Reranker.from_scorer(model, fake_spec("lists")), statistics=figures))

    first = sum(row.scores is not None and row.scores[0] == -1 for row in labelled)
    assert 5 <= first <= 25, "the relevant document is first as often as by chance"
    assert all(sorted(row.scores or ()) == [-4, -3, -2, -1] for row in labelled)
    for row, shown in zip(labelled, model.shown, strict=True):
        assert [row.docs[(row.scores or ()).index(-rank)] for rank in (1.0, 2.0, 3.0, 4.0)] == list(shown)
    again = list(label(rows, Reranker.from_scorer(Indifferent(), fake_spec("lists")), start=17, together=9))
    other = list(label(rows, Reranker.from_scorer(Indifferent(), fake_spec("lists")), seed=1))
    assert again == labelled[17:]
    assert other != labelled
    assert (figures.answers, figures.malformed_answers, figures.unread_answers) == (60, 60, 60)
    assert figures.to_dict()["malformed_share"] == 1.0
    assert figures.truncated_documents == 60
    assert "60 of 60 answers of 'lists' were malformed" in caplog.text


def test_models_that_score_are_shown_documents_as_they_are() -> None:
    """Only a model that orders lists could repeat the order it was given."""

    class Scores(FakeTextScorer):
        def score(self, query: str, docs: Sequence[str]) -> list[float]:
            assert tuple(docs) in {row.docs for row in ROWS}
            return super().score(query, docs)

    assert len(list(label(ROWS, Reranker.from_scorer(Scores(), fake_spec("api"))))) == len(ROWS)


def test_truncated_documents_are_counted(cross_encoder: Reranker) -> None:
    """A teacher that reads only the first passage of a long document is reported to have done so."""
    figures = LabellingStatistics()
    list(label(ROWS, cross_encoder, statistics=figures, longdoc="firstp"))
    assert figures.truncated_documents == 1
    other = LabellingStatistics()
    list(label(ROWS, cross_encoder, statistics=other))
    assert other.truncated_documents == 0


def test_a_cascade_is_refused() -> None:
    """Scores of different depths do not compare, so that a student cannot learn from them."""
    cascade = Reranker.from_scorer(FakeCascade([1]), fake_spec("layers"))
    with pytest.raises(InputError, match="row 'a' at different depths of a cascade"):
        list(label(ROWS, cascade))


def test_what_goes_wrong_names_the_row() -> None:
    """NaN and queries that cannot be asked are errors with the row's id, or its position where it has none."""
    broken = Reranker.from_scorer(Broken(), fake_spec("broken"))
    with pytest.raises(NonFiniteScoreError, match="document 1 of row 'a'"):
        list(label([*ROWS[1:], ROWS[0]], broken))
    fine = Reranker.from_scorer(FakeTextScorer(), fake_spec("fine"))
    with pytest.raises(InputError, match="the query of row 1 is ' '"):
        list(label([ROWS[0], TrainingRow(" ", ("a",))], fine))
    with pytest.raises(InputError, match="unknown option 'depth'"):
        list(label(ROWS, fine, depth=3))
