"""The numbers behind the plots of the report, against numbers by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from helpers.reports import evaluation_of, judged_set, run_of
from rerank_core.measures import Interval
from rerank_eval.figures.evaluation import Comparison, Evaluation, Row, Speed
from rerank_eval.report.rows.answer import answer
from rerank_eval.report.rows.lengths import length_loss
from rerank_eval.report.rows.pareto import pareto
from rerank_eval.report.rows.passages import Positions, first_against_max, positions
from rerank_eval.report.rows.scores import by_query, score_figures
from rerank_eval.report.rows.telling import disputed, harmed
from rerank_eval.runs.model_run import ModelRun, QueryRun, RunFacts
from rerank_eval.sets.judged_set import Candidate, JudgedQuery, JudgedSet

METRIC = "nDCG@10"


def model(name: str, mean: float, ms: float | None = None, **more: Any) -> Row:
    """A row with a mean."""
    values = more.pop("per_query", (mean, mean))
    kind = more.pop("kind", "model")
    speed = None if ms is None else Speed(ms, 2 * ms)
    return Row(
        "set", name, kind, {METRIC: values}, {METRIC: Interval(mean, mean - 0.1, mean + 0.1)}, speed=speed, **more
    )


def run(queries: Sequence[QueryRun], **options: Any) -> ModelRun:
    return ModelRun("m", "m", options, "f", "d", tuple(queries), RunFacts())


def two_queries(*candidates: tuple[str, float]) -> JudgedSet:
    """A set whose two queries have the same candidates."""
    made = tuple(Candidate(f"d{at}", text, gain) for at, (text, gain) in enumerate(candidates))
    return JudgedSet("set", (JudgedQuery("q0", "one", made), JudgedQuery("q1", "two", made)))


def test_pareto() -> None:
    """A model is off the line if another one is at least as good and as fast, and better in one of the two."""
    rows = [
        model("slow", 0.6, 30),
        model("best", 0.7, 20),
        model("as fast", 0.65, 20),
        model("fast", 0.5, 10),
        model("untimed", 0.9),
        model("BM25", 0.8, kind="BM25"),
    ]
    assert [(point.name, point.efficient) for point in pareto(rows, METRIC)] == [
        ("fast", True),
        ("best", True),
        ("as fast", False),
        ("slow", False),
    ]
    assert all(point.efficient for point in pareto([model("a", 0.5, 10), model("b", 0.5, 10)], METRIC))


def test_positions_of_best_passages() -> None:
    """Passages of relevant documents alone count, by their middle."""
    judged = two_queries(("x" * 90, 1), ("x" * 90, 2), ("x" * 90, 0), ("x" * 90, 1))
    spans = {0: (0, 10), 1: (40, 50), 2: (0, 10), 3: (60, 62)}
    runs = [QueryRun("q0", (1, 2, 3, 4), 0.1, passages=spans), QueryRun("q1", (1, 2, 3, 4), 0.1, passages={0: (0, 90)})]
    found = positions(judged, [model("m", 0.5, run=run(runs)), model("whole", 0.5, run=run([]))])
    assert found == [Positions("m", beginning=1, middle=2, end=1)]
    assert found[0].documents == 4


def test_first_passage_against_best_passage() -> None:
    """Two runs are a pair if they differ in ``longdoc`` alone; without one, several passages show MaxP."""
    passages = [QueryRun("q0", (1,), 0.1, passages={0: (0, 5)})]
    first = model("first", 0.5, per_query=(0.4, 0.6), run=run([], longdoc="firstp", max_length=256))
    best = model("best", 0.7, per_query=(0.8, 0.6), run=run(passages, max_length=256))
    other = model("other", 0.9, run=run(passages, max_length=128))
    mean = model("mean", 0.9, run=run(passages, longdoc="meanp", max_length=256))
    (pair,) = first_against_max([first, best, other, mean], METRIC)
    assert (pair.first, pair.best) == ("first", "best")
    assert pair.difference.mean == pytest.approx(0.2)


def test_length_against_loss() -> None:
    """Loss is the share of less relevant candidates that score as high or higher, by quartile of length."""
    judged = two_queries(("x" * 10, 1), ("x" * 50, 1), ("y", 0), ("z", 0))
    # q0: one of two beats the short one, none the long one. q1: one ties with the short one, both beat the long one.
    runs = [QueryRun("q0", (0.5, 0.9, 0.8, 0.1), 0.1), QueryRun("q1", (0.5, 0.0, 0.5, 0.1), 0.1)]
    (line,) = length_loss(judged, [model("m", 0.5, run=run(runs))])
    assert [(one.low, one.high, one.documents, one.queries) for one in line.bins if one.documents] == [
        (9, 10, 2, 2),
        (30, 50, 2, 2),
    ]
    assert [one.loss.mean for one in line.bins if one.loss] == [0.5, 0.5]
    assert [(one.loss.low, one.loss.high) for one in line.bins if one.loss] == [(0.5, 0.5), (0.0, 1.0)]


def test_probabilities_come_from_other_queries() -> None:
    """Five queries, one a fold; the last has its labels reversed. Platt's fit to two scores gives each the mean of its
    targets: 5/6 and 1/6 for the last query by the others, 2/3 and 1/3 for each of them."""
    judged = JudgedSet(
        "set",
        tuple(
            JudgedQuery(f"q{at}", "one", (Candidate("a", "x", float(at < 4)), Candidate("b", "y", float(at == 4))))
            for at in range(5)
        ),
    )
    row = model("m", 0.5, run=run([QueryRun(f"q{at}", (1.0, 0.0), 0.1) for at in range(5)]))
    found = score_figures(judged, row).reliability
    assert found is not None
    assert sorted((count, round(mean, 6), share) for count, mean, share in found.bins) == [
        (1, round(1 / 6, 6), 1.0),
        (1, round(5 / 6, 6), 0.0),
        (4, round(1 / 3, 6), 0.0),
        (4, round(2 / 3, 6), 1.0),
    ]
    assert found.ece == pytest.approx((2 * 5 / 6 + 8 * 1 / 3) / 10)


def test_unjudged_documents_and_failed_calls_have_no_scores() -> None:
    """Only judged candidates of calls that succeeded count."""
    made = (Candidate("a", "x", 1.0), Candidate("b", "y", 0.0), Candidate("c", "z"))
    judged = JudgedSet("set", (JudgedQuery("q0", "one", made), JudgedQuery("q1", "two", made)))
    row = model("m", 0.5, run=run([QueryRun("q0", (3.0, 2.5, 9.0), 0.1), QueryRun("q1", (), 0.1, error="no answer")]))
    assert by_query(judged, row) == [[(3.0, 1), (2.5, 0)]]


def test_scores_without_probabilities() -> None:
    """Ranks have no histogram, and scores that fall with relevance no probability; the reason is told."""
    judged = judged_set()
    ranks = evaluation_of(judged).rows_of("small")[0]
    ranked = run_of(judged, "ranks", lambda query, at, gain: float(-1 - at))
    assert score_figures(judged, Row("small", "ranks", "model", {}, {}, ranked)).reason.startswith("it gives ranks")
    wrong = run_of(judged, "wrong", lambda query, at, gain: query / 100 - gain)
    found = score_figures(judged, Row("small", "wrong", "model", {}, {}, wrong))
    assert found.reliability is None
    assert "no higher than irrelevant" in found.reason
    assert sum(bar.relevant for bar in found.bars) == len(judged.queries)
    assert sum(bar.irrelevant for bar in found.bars) == 4 * len(judged.queries)
    assert ranks.kind == "oracle"


def test_the_answer() -> None:
    """The leader, what is open beside it, the fastest of these, and the gain over the first stage."""
    rows = (model("b", 0.7, 50), model("a", 0.72, 90), model("c", 0.4, 5), model("bm25", 0.5, kind="first stage"))

    def compared(first: str, second: str, mean: float, p: float) -> Comparison:
        return Comparison("set", METRIC, first, second, Interval(mean, mean - 0.01, mean + 0.03), p, p)

    comparisons = (
        compared("a", "b", -0.02, 0.4),
        compared("c", "a", 0.32, 0.001),
        compared("bm25", "a", 0.22, 0.01),
    )
    found = answer(Evaluation((), (METRIC,), rows, comparisons), "set")
    assert (found.leader, found.runner_up, found.open, found.fastest) == (rows[1], rows[0], (rows[0],), rows[0])
    assert found.lead is not None
    assert found.gain is not None
    assert found.lead.difference == Interval(0.02, pytest.approx(-0.01), pytest.approx(0.03))
    assert found.gain.difference.mean == 0.22
    # What was not compared is not settled.
    found = answer(Evaluation((), (METRIC,), rows, comparisons[:1]), "set")
    assert found.open == (rows[0], rows[2])
    assert answer(Evaluation((), (METRIC,), rows[3:], ()), "set").leader is None


def test_the_most_telling_queries() -> None:
    """Queries with the largest disagreement, and those that a model made worse, with the documents at the top."""
    judged = judged_set(queries=5)
    same = run_of(judged, "same", lambda query, at, gain: float(-at))
    turned = run_of(judged, "turned", lambda query, at, gain: float(at if query == 2 else -at))
    rows = [
        Row("small", "same", "model", {METRIC: [0.5] * 5}, {METRIC: Interval(0.5, 0, 1)}, same),
        Row("small", "turned", "model", {METRIC: [0.4, 0.9, 0.1, 0.5, 0.5]}, {METRIC: Interval(0.5, 0, 1)}, turned),
        Row("small", "stage", "first stage", {METRIC: [0.5] * 5}, {METRIC: Interval(0.5, 0, 1)}),
    ]
    (shown,) = disputed(judged, rows, METRIC, limit=3, characters=80)
    assert (shown.query.id, shown.values, shown.stage_value) == ("q2", {"same": 0.5, "turned": 0.1}, 0.5)
    assert shown.disagreement == pytest.approx(1.0)
    ranks = {one.id: (one.stage_rank, one.ranks["same"], one.ranks["turned"]) for one in shown.documents}
    assert ranks == {f"d2-{at}": (1 + at, 1 + at, 5 - at) for at in range(5)}
    long = next(one for one in shown.documents if one.id == "d2-3")
    # The model that ranks it higher owns the passage, which is at the end of the text.
    assert long.passage_of == "turned"
    assert long.text.marked.endswith("3")
    assert (long.text.cut_before, long.text.cut_after, long.text.shown) == (True, False, 80)
    worse, told = harmed(judged, rows, rows[1], METRIC, limit=1, characters=80)
    assert [(one.query, one.before, one.after) for one in worse] == [("q2", 0.5, 0.1), ("q0", 0.5, 0.4)]
    assert [one.query.id for one in told] == ["q2"]
