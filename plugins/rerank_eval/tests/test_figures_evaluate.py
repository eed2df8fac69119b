"""`evaluate`: the rows of a set, means over sets, JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from rerank_core import InputError
from rerank_eval.figures.evaluate import evaluate
from rerank_eval.figures.evaluation import Evaluation, Row
from rerank_eval.figures.means import means_over_sets
from rerank_eval.figures.plain_data import to_dict
from rerank_eval.runs.model_run import ModelRun, QueryRun, RunFacts
from rerank_eval.sets.judged_set import Candidate, JudgedQuery, JudgedSet

MakeSet = Callable[..., JudgedSet]


def run_of(judged: JudgedSet, name: str, scores: Sequence[Sequence[float]], **more: object) -> ModelRun:
    queries = [
        QueryRun(query.id, tuple(own), 0.1, 50, truncated=(0,), error=None if own else "no answer")
        for query, own in zip(judged.queries, scores, strict=False)
    ]
    return ModelRun(name, name, {}, "f", judged.digest, tuple(queries), RunFacts(parameters=7), **more)  # type: ignore[arg-type]


def rows(evaluation: Evaluation) -> dict[str, Row]:
    return {row.name: row for row in evaluation.rows}


GOOD, BAD = [9.0, 1.0, 1.0, 1.0], [0.0, 1.0, 1.0, 1.0]


def test_rows_of_a_set(make_set: MakeSet) -> None:
    """Every model stands between the floors and the ceiling, with the first stage among them, best first."""
    judged = make_set(4, first_stage=True)
    runs = [run_of(judged, "bad", [BAD] * 4), run_of(judged, "good", [GOOD] * 4)]
    found = evaluate([judged], runs, ["RR", "nDCG@2"], price_per_hour=36)
    assert [(row.kind, row.name) for row in found.rows_of("small")][-1] == ("model", "bad")
    by_name = rows(found)
    assert [row.kind for row in by_name.values()] == ["model", "model", "first stage", "BM25", "random", "oracle"]
    assert by_name["good"].per_query == {"RR": (1.0,) * 4, "nDCG@2": (1.0,) * 4}
    assert by_name["bad"].figures["RR"].mean == 0.25
    assert by_name["bad"].figures["nDCG@2"].mean == 0.0
    assert by_name["first stage: toy search"].figures["RR"].mean == 1.0
    assert by_name["oracle"].figures["RR"].mean == 1.0
    # One relevant document among four: the mean of 1, 1/2, 1/3, 1/4.
    assert by_name["random"].figures["RR"].mean == pytest.approx(25 / 48)
    good = by_name["good"]
    assert (good.truncated, good.failed, good.judged) == (0.25, 0, 1.0)
    assert good.speed is not None
    assert (good.speed.tokens_per_second, good.speed.cost_per_1000) == (pytest.approx(500), pytest.approx(1.0))
    assert found.judged_share == {"small": 1.0}
    assert found.models == ["bad", "good"]
    assert {(one.first, one.second) for one in found.comparisons} == {
        ("first stage: toy search", "bad"),
        ("first stage: toy search", "good"),
        ("bad", "good"),
    }


def test_bm25_is_shown_once(make_set: MakeSet) -> None:
    """Where it is the first stage, it is no floor too."""
    judged = replace(make_set(3, first_stage=True), first_stage="BM25")
    assert [row.kind for row in evaluate([judged], []).rows] == ["first stage", "random", "oracle"]


def test_a_failed_query_counts_as_0(make_set: MakeSet) -> None:
    judged = make_set(4)
    row = rows(evaluate([judged], [run_of(judged, "m", [GOOD, [], GOOD, GOOD])]))["m"]
    assert row.per_query["AP"] == (1.0, 0.0, 1.0, 1.0)
    assert (row.failed, row.figures["AP"].mean) == (1, 0.75)


def test_a_stopped_run_has_no_figures(make_set: MakeSet) -> None:
    """Figures of some of the queries compare with nothing; its speed is known."""
    judged = make_set(9)
    found = evaluate([judged], [run_of(judged, "m", [GOOD] * 5, stopped="budget", reason="slow")])
    row = rows(found)["m"]
    assert (row.per_query, row.figures, row.judged) == ({}, {}, None)
    assert row.speed is not None
    assert found.rows_of("small")[-1] is row
    assert found.comparisons == ()


def test_unjudged_candidates_are_counted(make_set: MakeSet) -> None:
    """The share of all candidates, and for each row of those at its top."""
    judged = make_set(2)
    queries = [
        replace(one, candidates=(*one.candidates[:2], *(replace(c, gain=None) for c in one.candidates[2:])))
        for one in judged.queries
    ]
    judged = replace(judged, queries=tuple(queries))
    found = evaluate([judged], [run_of(judged, "m", [[1.0, 2.0, 3.0, 4.0]] * 2)], ["nDCG@2"])
    assert found.judged_share == {"small": 0.5}
    assert rows(found)["m"].judged == 0.0
    assert rows(found)["oracle"].judged == 1.0


def test_sets_with_the_same_texts_share_their_runs(make_set: MakeSet) -> None:
    first = make_set(2)
    second = replace(first, name="again")
    runs = [run_of(one, "m", [GOOD, BAD]) for one in (first, second)]
    found = evaluate([first, second], runs, ["RR"])
    assert [row.set for row in found.rows if row.kind == "model"] == ["small", "again"]


def test_means_over_sets(make_set: MakeSet) -> None:
    """Each set counts the same; a model that lacks one has no mean."""
    one, two = make_set(8, name="one"), make_set(2, name="two", first_stage=True)
    runs = [
        run_of(one, "m", [GOOD] * 8),
        run_of(two, "m", [GOOD, BAD]),
        run_of(one, "n", [GOOD] * 8),
        run_of(two, "n", [], stopped="crashed", reason="memory"),
    ]
    means = {mean.name: mean for mean in means_over_sets(evaluate([one, two], runs, ["RR"]))}
    figure = means["m"].figure
    assert figure is not None
    assert figure.mean == pytest.approx((1 + 0.625) / 2)
    assert (figure.low, figure.high) == (pytest.approx((1 + 0.25) / 2), pytest.approx(1.0))
    assert (means["n"].figure, means["n"].missing) == (None, ("two",))
    assert means["first stage"].missing == ("one",)
    assert {mean.name for mean in list(means.values())[-2:]} == {"first stage", "n"}


@pytest.mark.parametrize(
    ("queries", "metrics", "message"),
    [(1, ["RR"], "has 1 queries"), (3, ["nDGC@10"], "nDGC@10"), (3, [], "needs sets and metrics")],
)
def test_what_cannot_be_evaluated(queries: int, metrics: list[str], message: str, make_set: MakeSet) -> None:
    with pytest.raises(InputError, match=message):
        evaluate([make_set(queries)], [], metrics)


def test_json_has_everything(make_set: MakeSet) -> None:
    """And is valid JSON, without NaN."""
    judged = make_set(3, first_stage=True)
    queries = tuple(
        JudgedQuery(one.id, one.text, (*one.candidates, Candidate("late", "t", None))) for one in judged.queries
    )
    judged = replace(judged, queries=queries)
    runs = [
        run_of(judged, "a", [[*GOOD, 0.0]] * 3),
        run_of(judged, "b", [[*BAD, 0.0], [], [*BAD, 2.0]]),
        run_of(judged, "c", [], stopped="failed", reason="no such model"),
    ]
    data = json.loads(json.dumps(to_dict(evaluate([judged], runs)), allow_nan=False))
    assert data["schema_version"] == 1
    assert data["metrics"] == ["nDCG@10", "AP", "RR@10"]
    (of_set,) = data["sets"]
    assert of_set["judged_share"] == 0.8
    assert {row["name"] for row in of_set["rows"]} >= {"a", "b", "c", "random", "BM25", "oracle"}
    by_name = {row["name"]: row for row in of_set["rows"]}
    assert by_name["c"]["run"]["reason"] == "no such model"
    assert by_name["b"]["run"]["queries"][1]["error"] == "no answer"
    assert by_name["a"]["figures"]["AP"]["mean"] == 1.0
    assert [one["query"] for one in of_set["made_worse"]["b"]] == ["q2", "q1", "q3"]
    assert of_set["depth"]["a"] == {"0": 1.0, "5": 1.0}
    assert set(of_set["disagreement"]) == {"q1", "q3"}
    assert [(one["first"], one["second"]) for one in of_set["fusions"]] == [("a", "b")]
    assert math.isclose(data["means"][0]["figure"]["mean"], 1.0)
