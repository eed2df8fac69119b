"""Several dev sets: each of its kind is measured, and one named metric decides."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from helpers.runs import MakeRows, Prepared

import rerank_core
from rerank_core import InputError, Reranker
from rerank_core.records.label_scale import LabelScale
from rerank_core.records.training_row import TrainingRow
from rerank_core.testing import tiny_encoder
from rerank_trainers.evaluation.corpus_set import CorpusSet
from rerank_trainers.evaluation.dev_data import DevData, DevPart
from rerank_trainers.evaluation.dev_sets import DevSets
from rerank_trainers.evaluation.pair_set import PairSet, spearman
from rerank_trainers.loop.prepare import live_reranker
from rerank_trainers.retrieval.corpus import Corpus

TEXTS = [f"The {animal} eats {food}." for animal in ("panda", "bear", "otter") for food in ("bamboo", "fish", "eggs")]
RANKED = [
    TrainingRow("what does the panda eat?", (TEXTS[0], TEXTS[4]), (1.0, 0.0), id="panda"),
    TrainingRow("what does the otter eat?", (TEXTS[1], TEXTS[7]), (0.0, 1.0), id="otter"),
]
PAIRS = [
    TrainingRow(TEXTS[0], (TEXTS[1],), (3.5,), id="near"),
    TrainingRow(TEXTS[0], (TEXTS[8],), (0.0,), id="far"),
    TrainingRow(TEXTS[5], (TEXTS[5],), (5.0,), id="same"),
]


@pytest.fixture(scope="module")
def mini() -> Any:
    """The embedded late-interaction model."""
    with rerank_core.load("mini") as reranker:
        yield reranker


@pytest.fixture(scope="module")
def other() -> Any:
    """The same with shorter documents, which gives other scores."""
    with rerank_core.load("mini", max_length=4) as reranker:
        yield reranker


def parts(*names: str) -> DevData:
    """Dev data of a set of each kind."""
    made = {
        "ranked": DevPart("ranked", "files", RANKED),
        "found": DevPart("found", "corpus", RANKED, Corpus.of(TEXTS)),
        "alike": DevPart("alike", "pairs", PAIRS),
    }
    return DevData([made[name] for name in names or made])


def test_all_sets_are_measured_under_their_names(mini: Reranker) -> None:
    """The deciding metric is measured on its set only, and each value is that of the set alone."""
    sets = DevSets.of(parts(), "found/R@2")
    found = sets.evaluate(mini)

    assert sets.metric == "found/R@2"
    assert list(found.values) == [
        "ranked/nDCG@10", "ranked/AP", "ranked/RR@10",
        "found/R@2", "found/nDCG@10", "found/R@100", "found/RR@10",
        "alike/Spearman",
    ]  # fmt: skip
    alone = DevSets.of(RANKED, "AP").evaluate(mini)
    assert alone.values == {name: found.values[f"ranked/{name}"] for name in ("AP", "nDCG@10", "RR@10")}
    assert alone.scored == found.scored
    assert len(found.queries["found/nDCG@10"]) == 2
    assert "alike/Spearman" not in found.queries, "a correlation has no value of a single pair"


def test_widths_have_names_of_their_own(mini: Reranker, other: Reranker) -> None:
    """Each labelled reranker is measured on every set; the first gives the scores for calibration."""
    sets = DevSets.of(parts("ranked", "alike"), "ranked/nDCG@10 (64)")
    found = sets.evaluate([("", mini), ("64", other)])
    assert sets.metric == "ranked/nDCG@10 (64)"
    assert list(found.values)[4:] == [
        "ranked/nDCG@10 (64)", "ranked/AP (64)", "ranked/RR@10 (64)", "alike/Spearman (64)",
    ]  # fmt: skip
    assert found.values["alike/Spearman (64)"] == sets.sets["alike"].evaluate(other).values["Spearman"]
    assert found.scored == sets.evaluate(mini).scored


@pytest.mark.parametrize(
    ("metric", "names", "decided"),
    [
        ("MRR@10", ("ranked",), "ranked/RR@10"),
        ("ranked/MRR@10", ("ranked", "alike"), "ranked/RR@10"),
        ("alike/Spearman", (), "alike/Spearman"),
        ("Spearman", ("alike",), "alike/Spearman"),
        ("found/P(rel=1)@5 (256)", (), "found/P@5 (256)"),
    ],
)
def test_the_deciding_metric_has_the_name_of_results(metric: str, names: tuple[str, ...], decided: str) -> None:
    """A single set needs no name; ir_measures decides how a metric is called."""
    assert DevSets.of(parts(*names), metric).metric == decided


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (
            "nDCG@10",
            r"train.metric is 'nDCG@10', which names no metric .* like 'ranked/nDCG@10', 'found/nDCG@10', 'alike",
        ),
        ("wikiqa/nDCG@10", "names no metric of a dev set"),
        ("alike/nDCG@10", "pairs have only 'alike/Spearman'"),
        ("ranked/nonsense", "measures are those of ir_measures"),
    ],
)
def test_a_metric_of_no_set_is_an_error(metric: str, message: str) -> None:
    """Before anything is trained, with the names that would do."""
    with pytest.raises(InputError, match=message):
        DevSets.of(parts(), metric)


def test_a_corpus_is_searched_whole(mini: Reranker) -> None:
    """The metrics are those of the ranking of all texts, computed by hand."""
    corpus = Corpus.of([*TEXTS, TEXTS[0].upper()])
    found = CorpusSet(RANKED, corpus, ("RR", "R@3", "nDCG@10")).evaluate(mini)
    for at, (row, relevant) in enumerate(zip(RANKED, (TEXTS[0], TEXTS[7]), strict=True)):
        rank = [hit.document.text for hit in mini.rerank(row.query, TEXTS)].index(relevant) + 1
        assert found.queries["RR"][at] == pytest.approx(1 / rank)
        assert found.queries["R@3"][at] == float(rank <= 3)
        assert found.queries["nDCG@10"][at] == pytest.approx(1 / np.log2(rank + 1))


class OneScore:
    """A retriever whose scores are all equal."""

    def __init__(self, reranker: Any, texts: Sequence[str]) -> None:
        self.texts = texts

    def scores(self, query: str, instruction: str | None = None) -> Any:
        return np.zeros(len(self.texts))


def test_equal_scores_count_against_the_model(monkeypatch: pytest.MonkeyPatch, mini: Reranker) -> None:
    """A collapsed model finds nothing, wherever the corpus has the relevant documents."""
    monkeypatch.setattr("rerank_trainers.evaluation.corpus_set.LateInteractionRetriever", OneScore)
    found = CorpusSet(RANKED, Corpus.of(TEXTS), ("R@8", "R@9")).evaluate(mini)
    assert found.values == {"R@8": 0.0, "R@9": 1.0}


def test_rows_of_one_query_are_one_query() -> None:
    """With all its relevant documents and the highest label of each; another instruction is another query."""
    rows = [
        TrainingRow("panda", (TEXTS[0], TEXTS[3]), (1.0, 0.0), id="a"),
        TrainingRow("panda", (TEXTS[1], TEXTS[0].upper()), (2.0, 3.0), id="b"),
        TrainingRow("panda", (TEXTS[2],), (1.0,), id="c", instruction="find"),
        TrainingRow("nothing", (TEXTS[2],), (0.0,), id="d"),
    ]
    found = CorpusSet(rows, Corpus.of(TEXTS), scale=LabelScale(0, 3))
    assert found.gains == [{0: 3.0, 1: 2.0}, {2: 1.0}]
    assert found.left_out == 1
    assert DevSets.of(DevData([DevPart("x", "corpus", rows, Corpus.of(TEXTS))]), "x/nDCG@10").left_out == [
        "data.eval.x: 1 of 3 rows have no relevant document, or no irrelevant one; they are not measured"
    ]


def test_what_a_corpus_set_needs() -> None:
    """Relevant documents in the corpus, labels, and a model that encodes documents alone."""
    with pytest.raises(InputError, match=r"otter: its relevant document .* is not in the corpus"):
        CorpusSet(RANKED, Corpus.of(TEXTS[:3]))
    with pytest.raises(InputError, match="a dev set needs labels"):
        CorpusSet([TrainingRow("q", (TEXTS[0],), id="r")], Corpus.of(TEXTS))
    with pytest.raises(InputError, match="none of 1 dev queries has a relevant document"):
        CorpusSet([TrainingRow("q", (TEXTS[0],), (0.0,), id="r")], Corpus.of(TEXTS))


def test_a_cross_encoder_cannot_search(encoder: Path) -> None:
    """The error says so and what to do instead."""
    message = r"cannot search the corpus of a dev set: .* Rank candidates instead"
    with rerank_core.load(encoder, device="cpu") as reranker, pytest.raises(InputError, match=message):
        DevSets.of(parts("found"), "nDCG@10").evaluate(reranker)


def test_a_search_is_refused_before_a_model_is_loaded(prepared: Prepared, rows: MakeRows) -> None:
    """A run of a cross-encoder with a corpus does not get as far as its checkpoint."""
    with pytest.raises(
        InputError, match=r"data\.eval\.found searches a corpus, and the model reads query and document"
    ):
        prepared("model.checkpoint=missing", "train.metric=found/RR@10", rows=rows(8), dev=parts("found"))


def test_spearman_is_scipys() -> None:
    """With ties on both sides."""
    draw = random.Random(5)
    for size in (2, 3, 10, 200):
        for _ in range(5):
            left = [float(draw.randrange(4)) for _ in range(size)]
            right = [draw.choice([draw.random(), 0.5]) for _ in range(size)]
            if len(set(left)) > 1 and len(set(right)) > 1:
                assert spearman(left, right) == pytest.approx(scipy.stats.spearmanr(left, right).statistic, abs=1e-12)


def test_pairs_are_scored_by_the_model(mini: Reranker) -> None:
    """In the order of the rows, of any range of labels; a row may hold several pairs."""
    found = PairSet(PAIRS).evaluate(mini).values["Spearman"]
    scores = mini.score([(row.query, row.docs[0]) for row in PAIRS])
    assert found == pytest.approx(scipy.stats.spearmanr([3.5, 0.0, 5.0], scores).statistic)
    together = [TrainingRow(TEXTS[0], (TEXTS[1], TEXTS[8]), (3.5, 0.0), id="two"), PAIRS[2]]
    assert PairSet(together).evaluate(mini).values["Spearman"] == found
    with pytest.raises(InputError, match="the 2 pairs have one score"):
        PairSet([PAIRS[0], PAIRS[0]])
    with pytest.raises(InputError, match="x: similarity pairs need scores"):
        PairSet([TrainingRow("a", ("b",), id="x")])


def test_dev_data_is_a_sequence_of_all_rows() -> None:
    """Sets follow each other; plain rows are one set without a name."""
    data = parts()
    assert list(data) == [*RANKED, *RANKED, *PAIRS]
    assert (data[-1], data[2:4]) == (PAIRS[2], [*RANKED])
    with pytest.raises(IndexError):
        data[7]
    assert DevData.of(RANKED).parts[0].name == ""
    assert DevData.of(data) is data
    assert DevSets.of(RANKED).metric == "nDCG@10"


def test_a_model_in_training_searches_the_corpus(
    prepared: Prepared, rows: MakeRows, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The corpus is encoded with the current weights at every evaluation, so the result is that of the served model."""
    start = tiny_encoder(tmp_path_factory.mktemp("start"), "bert")
    run = prepared(
        "model.kind=embedding", f"model.checkpoint={start}", "objective=infonce", "train.metric=found/nDCG@10",
        "train.learning_rate=0.5", rows=rows(8), dev=parts("found", "alike"),
    )  # fmt: skip
    before = run.evaluate()
    run.train()
    after = run.evaluate()
    assert before is not None
    assert after is not None
    assert run.trainer.state.best_metric == after.values["found/nDCG@10"]
    served = DevSets.of(parts("found", "alike"), "found/nDCG@10").evaluate(live_reranker(run.model))
    assert served.values == after.values


def test_training_keeps_the_checkpoint_of_the_deciding_set(prepared: Prepared, rows: MakeRows) -> None:
    """Every set is in the log of every evaluation; the best of the named metric is what is kept."""
    data = DevData([DevPart("ranked", "files", rows(6)), DevPart("alike", "pairs", PAIRS)])
    run = prepared("train.metric=alike/Spearman", "train.epochs=3", rows=rows(8), dev=data)
    before = run.evaluate()
    run.train()
    log = [entry for entry in run.trainer.state.log_history if "eval_alike/Spearman" in entry]

    assert before is not None
    assert list(before.values) == ["ranked/nDCG@10", "ranked/AP", "ranked/RR@10", "alike/Spearman"]
    assert len(log) == 3
    assert all("eval_ranked/nDCG@10" in entry for entry in log)
    assert run.trainer.state.best_metric == max(entry["eval_alike/Spearman"] for entry in log)
    after = run.evaluate()
    assert after is not None
    assert after.values["alike/Spearman"] == run.trainer.state.best_metric
