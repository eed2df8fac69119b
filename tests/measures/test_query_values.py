"""Metrics of scores: ties, queries left out, unjudged documents, C-MTEB's two definitions."""

from __future__ import annotations

import importlib.util
import math
import random
from pathlib import Path

import numpy as np
import pytest

from helpers.scripts import module_of
from rerank_core import InputError
from rerank_core.measures import file_order_scores, measure_scores, worst_order
from rerank_core.measures.mean_average_precision import average_precision, worst_average_precision

# The readers of the data leave the closing of files to the garbage collector.
LEAKY = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


def test_values_of_a_hand_made_query() -> None:
    """Relevant documents at ranks 2 and 4, one of them not found: by hand."""
    found = measure_scores(
        ["nDCG@10", "AP", "RR@10", "R@3", "Judged@4", "unjudged@4"],
        [{"a": 2.0, "b": 0.0, "c": 1.0, "lost": 1.0}],
        [{"b": 4.0, "a": 3.0, "x": 2.0, "c": 1.0}],
    )
    gain = [1 / math.log2(place + 1) for place in range(1, 5)]
    expected = {
        "nDCG@10": (2 * gain[1] + gain[3]) / (2 * gain[0] + gain[1] + gain[2]),
        "AP": (1 / 2 + 2 / 4) / 3,
        "RR@10": 1 / 2,
        "R@3": 1 / 3,
        "Judged@4": 3 / 4,
        "unjudged@4": 1 / 4,
    }
    assert {name: values.mean for name, values in found.items()} == pytest.approx(expected)


@pytest.mark.parametrize("metric", ["nDCG@10", "AP", "RR", "map_at_1000"])
def test_a_model_of_one_score_is_measured_in_the_worst_order(metric: str) -> None:
    gains, docs = [{0: 3.0, 1: 1.0, 2: 0.0, 3: 0.0}], range(4)
    equal = measure_scores([metric], gains, [dict.fromkeys(docs, 0.5)])
    worst = measure_scores([metric], gains, [{doc: -gains[0][doc] for doc in docs}])

    assert equal == worst
    assert worst_order(dict.fromkeys(docs, 0.5), gains[0]) == [2, 3, 1, 0]


def test_queries_without_a_choice_are_left_out_and_counted() -> None:
    """No relevant document, no irrelevant one, no candidate, and one query with both."""
    gains: list[dict[int, float]] = [{0: 0.0, 1: 0.0}, {0: 1.0, 1: 2.0}, {0: 1.0}, {0: 1.0, 1: 0.0}]
    scores: list[dict[int, float]] = [{0: 1.0, 1: 0.0}, {0: 1.0, 1: 0.0}, {}, {0: 1.0, 1: 0.0}]
    found = measure_scores(["nDCG@10", "map", "map_at_1000", "unjudged@10"], gains, scores)

    assert {name: (values.queries, values.left_out) for name, values in found.items()} == {
        "nDCG@10": ((1, 3), 2),
        "map": ((3,), 3),
        "map_at_1000": ((3,), 3),
        "unjudged@10": ((0, 1, 3), 1),
    }
    assert math.isnan(measure_scores(["AP"], gains[:1], scores[:1])["AP"].mean)


def test_values_are_of_their_own_query() -> None:
    """The values of many queries together are those of each alone."""
    draw = random.Random(1)
    gains = [{doc: float(draw.randint(0, 2)) for doc in range(8)} for _ in range(15)]
    scores = [{doc: float(draw.randint(0, 3)) for doc in range(10)} for _ in range(15)]
    names = ["nDCG@5", "AP", "map", "map_at_1000", "Judged@5"]
    together = measure_scores(names, gains, scores)
    for name in names:
        alone = [
            measure_scores([name], [gain], [score])[name].values for gain, score in zip(gains, scores, strict=True)
        ]
        assert together[name].values == pytest.approx([value for values in alone for value in values])


def test_map_is_scikit_learns() -> None:
    """On random scores with many ties."""
    metrics = pytest.importorskip("sklearn.metrics")
    draw = np.random.default_rng(0)
    for size in (2, 3, 10, 60):
        for _ in range(5):
            relevant = draw.random(size) < 0.4
            relevant[:2] = True, False
            scores = draw.integers(0, 5, size) / 7
            expected = metrics.average_precision_score(relevant, scores)
            assert average_precision(scores.tolist(), relevant.tolist()) == pytest.approx(expected, abs=1e-12)


def test_map_at_1000_is_trec_evals() -> None:
    """pytrec_eval on mteb's document ids, with ties, scores that are equal in float32 alone, and a cut list."""
    pytrec_eval = pytest.importorskip("pytrec_eval")
    draw = np.random.default_rng(0)
    for size in (3, 10, 1002):
        relevant = sorted([*(draw.random(size) < 0.1).tolist(), True, False], reverse=True)
        scores = (draw.integers(0, 6, len(relevant)) / 7 + draw.random(len(relevant)) * 1e-9).tolist()
        names = [f"{'apositive' if one else 'negative'}_q_{at:05}" for at, one in enumerate(relevant)]
        evaluator = pytrec_eval.RelevanceEvaluator(
            {"q": {name: int(one) for name, one in zip(names, relevant, strict=True)}}, {"map_cut.1000"}
        )
        expected = evaluator.evaluate({"q": dict(zip(names, scores, strict=True))})["q"]["map_cut_1000"]
        assert worst_average_precision(scores, relevant) == pytest.approx(expected, abs=1e-12)


def test_equal_in_float32_is_a_tie() -> None:
    """0.1 + 1e-9 and 0.1 are one number in float32."""
    assert worst_average_precision([0.1 + 1e-9, 0.1], [True, False]) == 0.5
    assert average_precision([0.1 + 1e-9, 0.1], [True, False]) == 1.0


# Of mteb's own code, by tests/parity/test_mteb.py: 3 queries, scores with ties, relevant documents first.
GOLDEN = [
    ([0.5, 0.5, 0.25], [0.5, 0.25, 0.25, 0.75], 0.4761904761904762, 0.42063492063492064),
    ([1.0], [1.0, 1.0], 1 / 3, 1 / 3),
    ([0.0, 3.0], [3.0, -1.0, 0.0], 0.5, 0.5),
]


@pytest.mark.parametrize(("positive", "negative", "block", "worst"), GOLDEN)
def test_both_definitions_are_those_of_mteb(
    positive: list[float], negative: list[float], block: float, worst: float
) -> None:
    scores = [dict(enumerate(positive + negative))]
    gains = [{at: float(at < len(positive)) for at in scores[0]}]
    found = measure_scores(["map", "map_at_1000"], gains, scores)

    assert found["map"].mean == pytest.approx(block, abs=1e-12)
    assert found["map_at_1000"].mean == pytest.approx(worst, abs=1e-12)


@pytest.mark.data
@LEAKY
@pytest.mark.parametrize(("retriever", "published"), [("bm25", 0.5058), ("splade_pp_ed", 0.7308)])
def test_the_order_of_the_file_has_the_published_ndcg(data: Path, retriever: str, published: float) -> None:
    """TREC DL 2019: nDCG@10 of BM25 and of SPLADE++, with linear gain, over all judged documents."""
    readers = module_of(data / "readers.py")
    qrels = readers._trec_qrels(readers._o("en_trecdl/qrels.dl19-passage.txt"))
    runs = {query: [doc for doc, _, _ in docs] for query, _, docs in readers.trecdl(19, retriever)}
    gains = [{doc: float(grade) for doc, grade in qrels[query].items()} for query in runs]
    found = measure_scores(["nDCG@10", "unjudged@10"], gains, [file_order_scores(docs) for docs in runs.values()])

    assert len(found["nDCG@10"].values) == 43
    assert round(found["nDCG@10"].mean, 4) == published
    assert 0 <= found["unjudged@10"].mean < 0.2


@pytest.mark.parametrize(
    ("gains", "scores", "message"),
    [
        ([{0: 1.0}], [], "of 1 queries, and the scores of 0"),
        ([{0: 1.0}], [{0: math.nan}], "query 0: the score of document 0 is nan"),
        ([{0: math.inf}], [{0: 1.0}], "query 0: the gain of document 0 is inf"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    gains: list[dict[int, float]], scores: list[dict[int, float]], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        measure_scores(["nDCG@10"], gains, scores)
    with pytest.raises(InputError, match="measures are those of ir_measures"):
        measure_scores(["nDGC@10"], [{0: 1.0}], [{0: 1.0}])


def test_a_metric_without_its_library_is_refused_by_name() -> None:
    """ir_measures knows RBP, and computes it with a package that is not installed here."""
    if importlib.util.find_spec("cwl_eval"):
        pytest.skip("cwl-eval is installed, which computes RBP")
    with pytest.raises(InputError, match="'RBP' is computed by no installed library"):
        measure_scores(["RBP(p=0.8)"], [{0: 1.0}], [{0: 1.0}])


def test_gains_of_any_size_are_measured() -> None:
    """ir_measures loops over each value up to the highest; nDCG depends on the ratio of gains alone."""
    scores = [{0: 0.1, 1: 0.2, 2: 0.3}] * 4
    gains = [{0: 1e30, 1: 0.0, 2: 1e30}, {0: 1.0, 2: 1.0}, {0: 1e-9, 2: 1e-9}, {0: 3e9, 2: 1e9}]
    found = measure_scores(["nDCG@10", "AP"], gains, scores)
    equal = (1 + 1 / 2) / (1 + 1 / math.log2(3))
    graded = (1 + 3 / 2) / (3 + 1 / math.log2(3))
    assert found["nDCG@10"].values == pytest.approx([equal, equal, equal, graded], abs=1e-5)
    assert found["AP"].values == pytest.approx([(1 + 2 / 3) / 2] * 3)


def test_ndcg_measures_gains_below_a_half() -> None:
    """They are no relevance for the other metrics, which leave the query out."""
    found = measure_scores(["nDCG@10", "AP", "RR@10"], [{0: 0.4, 1: 0.1}], [{0: 0.0, 1: 1.0}])
    assert found["nDCG@10"].values == pytest.approx([(0.1 + 0.4 / math.log2(3)) / (0.4 + 0.1 / math.log2(3))])
    assert (found["AP"].left_out, found["RR@10"].left_out) == (1, 1)


@pytest.mark.parametrize("name", ["nDCG@0", "AP@0", "RR@-1", "RR@1.5", "P(rel=0)@5", "INST", "unjudged@0"])
def test_a_cutoff_below_one_is_refused(name: str) -> None:
    """trec_eval ends the process there."""
    with pytest.raises(InputError, match=r"below 1|measures are those"):
        measure_scores([name], [{0: 1.0}], [{0: 1.0}])
