"""The parts of an advice on small evaluations made by hand: budget, sets, first stage, settings, fusion, sentences."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from rerank_eval.advice.advice import Advice
from rerank_eval.advice.advise import advise
from rerank_eval.advice.contenders import weighted
from rerank_eval.figures.evaluate import evaluate
from rerank_eval.figures.evaluation import Evaluation
from rerank_eval.runs.model_run import ModelRun, QueryRun, RunFacts
from rerank_eval.sets.judged_set import Candidate, JudgedQuery, JudgedSet

QUERIES = 40


def judged_set(
    name: str = "dev", *, queries: int = QUERIES, candidates: int = 30, first_stage: bool = True
) -> JudgedSet:
    """One relevant document a query, at a random place of the first stage's order below the tenth."""
    random = np.random.default_rng(len(name))
    made = []
    for number in range(queries):
        relevant = random.integers(10, candidates)
        documents = tuple(Candidate(f"d{at}", f"text {at}", float(at == relevant)) for at in range(candidates))
        made.append(JudgedQuery(f"{name}{number}", f"query {number}", documents))
    if first_stage:
        return JudgedSet(name, tuple(made), order="first-stage", first_stage="BM25")
    return JudgedSet(name, tuple(made))


def run_of(
    judged: JudgedSet,
    label: str,
    quality: float,
    *,
    seconds: float = 0.02,
    seed: int = 0,
    options: dict[str, object] | None = None,
    **changes: object,
) -> ModelRun:
    """Scores that are ``quality`` for the relevant document plus noise of 1."""
    random = np.random.default_rng(seed)
    queries = []
    for query in judged.queries:
        noise = random.normal(0, 1, len(query.candidates))
        scores = tuple((noise + quality * np.array(query.gains)).tolist())
        queries.append(QueryRun(query.id, scores, seconds, tokens=100, **changes))  # type: ignore[arg-type]
    source = label.split(",")[0]
    facts = RunFacts(device="cpu", dtype=str((options or {}).get("dtype", "float32")))
    return ModelRun(label, source, options or {}, "f" * 64, judged.digest, tuple(queries), facts)


def advice_of(sets: Sequence[JudgedSet], runs: Sequence[ModelRun], budget_ms: float | None = None) -> Advice:
    evaluation: Evaluation = evaluate(sets, runs, ["nDCG@10"])
    return advise(evaluation, budget_ms=budget_ms)


def text_of(advice: Advice) -> str:
    return "\n".join(advice.sentences)


def test_the_better_one_within_the_budget() -> None:
    """The best model is over the budget; of the others the better one is chosen, and the data settles it."""
    dev = judged_set()
    runs = [
        run_of(dev, "weak", 1.0, seconds=0.005, seed=1),
        run_of(dev, "good", 2.5, seconds=0.04, seed=2),
        run_of(dev, "best", 9.0, seconds=0.5, seed=3),
    ]
    assert advice_of([dev], runs).choice == "best"
    advice = advice_of([dev], runs, budget_ms=50)
    assert (advice.choice, advice.kind, advice.settled, advice.more_queries) == ("good", "model", True, 0)
    assert [one.verdict for one in advice.versus] == ["better", "better"]
    (slow,) = advice.too_slow
    assert (slow.name, slow.median_ms) == ("best", pytest.approx(500))
    assert slow.difference is not None
    assert slow.difference.low > 0
    assert advice.sentences[0].startswith("Use good: nDCG@10 0.")
    assert advice.sentences[1] == "These 40 judged queries settle it."
    assert "best is over the budget of 50 ms: it takes 500 ms; its mean differs by +0." in text_of(advice)
    json.dumps(advice.to_json(), allow_nan=False)


def test_a_model_dropped_for_the_budget_and_one_that_failed() -> None:
    dev = judged_set()
    dropped = replace(run_of(dev, "huge", 9.0), queries=(), stopped="budget", reason="dropped after 5 queries")
    failed = replace(dropped, model="broken", stopped="failed", reason="no weights")
    advice = advice_of([dev], [run_of(dev, "good", 4.0), dropped, failed], budget_ms=50)
    assert advice.choice == "good"
    assert [(one.name, one.median_ms) for one in advice.too_slow] == [("huge", None)]
    assert advice.missing == (("broken", "no weights"),)
    assert "huge is over the budget of 50 ms: it was dropped." in advice.sentences
    assert "broken has no figures: no weights." in advice.sentences


def test_no_model_improves_on_the_first_stage() -> None:
    """The relevant document is first already; re-ranking can only do harm."""
    dev = judged_set()
    best = replace(
        dev,
        queries=tuple(
            replace(query, candidates=tuple(sorted(query.candidates, key=lambda one: -(one.gain or 0))))
            for query in dev.queries
        ),
    )
    advice = advice_of([best], [run_of(best, "weak", 1.0)])
    assert (advice.kind, advice.choice, advice.settled) == ("first stage", "first stage: BM25", True)
    assert advice.sentences[0].startswith(
        "Do not re-rank: no model is better than the first stage: BM25 (nDCG@10 1.000)"
    )
    assert advice.settings == ()


def test_nothing_within_the_budget() -> None:
    dev = judged_set(first_stage=False)
    advice = advice_of([dev], [run_of(dev, "slow", 4.0, seconds=1.0)], budget_ms=10)
    assert (advice.choice, advice.settled) == (None, False)
    assert advice.sentences[0] == "No model can be recommended: none has figures on every set within 10 ms."


def test_sets_count_the_same() -> None:
    """A model that is far better on the small set and a little worse on the large one has the higher mean."""
    large, small = judged_set("large", queries=60), judged_set("small", queries=20)
    runs = [
        run_of(large, "one", 4.0, seed=1),
        run_of(small, "one", 1.0, seed=2),
        run_of(large, "two", 3.4, seed=3),
        run_of(small, "two", 5.0, seed=4),
    ]
    advice = advice_of([large, small], runs)
    assert (advice.choice, advice.queries) == ("two", 80)
    evaluation = evaluate([large, small], runs, ["nDCG@10"])
    means = [row.figures["nDCG@10"].mean for row in evaluation.rows if row.name == "two"]
    assert advice.mean == pytest.approx(sum(means) / 2)
    assert weighted([[1.0], [0.0, 0.5]]) == (1.5, 0.0, 0.375)


def test_a_model_must_have_run_on_every_set() -> None:
    one, two = judged_set("one"), judged_set("two")
    stopped = replace(run_of(two, "half", 9.0), queries=(), stopped="crashed", reason="out of memory")
    advice = advice_of(
        [one, two], [run_of(one, "half", 9.0), stopped, run_of(one, "all", 3.0), run_of(two, "all", 3.0)]
    )
    assert advice.choice == "all"
    assert advice.missing == (("half", "out of memory"),)


def test_the_number_of_candidates() -> None:
    """A relevant document is never among the first ten, so that a model must re-rank more than 20 of 60."""
    dev = judged_set(candidates=60, queries=80)
    settings = {one.name: one for one in advice_of([dev], [run_of(dev, "good", 6.0)]).settings}
    assert (settings["candidates"].value, settings["candidates"].measured) == ("60", True)
    early = judged_set(candidates=20, queries=80)
    padded = replace(
        early,
        queries=tuple(
            replace(query, candidates=(*query.candidates, *(Candidate(f"e{at}", f"e {at}", 0.0) for at in range(80))))
            for query in early.queries
        ),
    )
    settings = {one.name: one for one in advice_of([padded], [run_of(padded, "good", 6.0)]).settings}
    assert settings["candidates"].value == "20"
    assert "re-rank the best 20 candidates of the first stage" in settings["candidates"].text
    assert "in about 20% of the time" in settings["candidates"].text


def test_a_slow_model_may_fit_with_fewer_candidates() -> None:
    early = judged_set(candidates=20, queries=80)
    padded = replace(
        early,
        queries=tuple(
            replace(query, candidates=(*query.candidates, *(Candidate(f"e{at}", f"e {at}", 0.0) for at in range(80))))
            for query in early.queries
        ),
    )
    runs = [run_of(padded, "weak", 2.0, seconds=0.01, seed=1), run_of(padded, "slow", 7.0, seconds=0.1, seed=2)]
    (slow,) = advice_of([padded], runs, budget_ms=25).too_slow
    assert slow.depth == 20
    assert slow.mean_at_depth is not None
    assert slow.mean_at_depth > 0.9


def test_options_are_compared_where_runs_differ_in_one_alone() -> None:
    dev = judged_set()
    runs = [
        run_of(dev, "m", 4.0, seconds=0.05),
        run_of(dev, "m,dtype=int8", 4.0, seconds=0.02, options={"dtype": "int8"}),
        run_of(dev, "other", 1.0, options={"dtype": "int8"}),
    ]
    advice = advice_of([dev], runs)
    assert advice.choice == "m,dtype=int8"
    settings = {one.name: one for one in advice.settings}
    assert (settings["dtype"].value, settings["dtype"].measured) == ("int8", True)
    assert settings["dtype"].text == "+0.000 [+0.000, +0.000] against float32, with 20 ms instead of 50"
    assert settings["longdoc"].measured
    assert "every document fits" in settings["longdoc"].text


def test_what_to_run_to_know() -> None:
    """Cut documents ask for maxp, windows for firstp, and one dtype for another one."""
    dev = judged_set()
    cut = advice_of([dev], [run_of(dev, "m", 4.0, truncated=(0, 1, 2), options={"longdoc": "firstp"})])
    settings = {one.name: one for one in cut.settings}
    assert (settings["longdoc"].value, settings["longdoc"].measured) == ("firstp", False)
    assert "10.0% of the documents were not read to their end; run also --model 'm,longdoc=maxp'" in text_of(cut)
    assert "dtype = float32: only float32 was run; run also --model 'm,longdoc=firstp,dtype=int8'" in text_of(cut)
    windows = advice_of([dev], [run_of(dev, "m", 4.0, passages={0: (0, 3)})])
    assert "run also --model 'm,dtype=int8', which takes less time" in text_of(windows)
    run = run_of(dev, "m", 4.0)
    rare = replace(run, queries=(replace(run.queries[0], passages={0: (0, 3)}), *run.queries[1:]))
    assert "longdoc = default: 0.1% of the documents are longer than a row" in text_of(advice_of([dev], [rare]))
    assert "3.3% of the documents were read in several windows; run also --model 'm,longdoc=firstp'" in text_of(windows)


def test_fusion() -> None:
    """Two models with errors of their own are better together; a model and its copy are not."""
    dev = judged_set(queries=100)
    one, two = run_of(dev, "one", 2.5, seed=1), run_of(dev, "two", 2.5, seed=2)
    (fusion,) = advice_of([dev], [one, two]).fusions
    assert (fusion.beats, fusion.set) == (True, "dev")
    assert "On dev, reciprocal rank fusion of one and two beats" in text_of(advice_of([dev], [one, two]))
    (copied,) = advice_of([dev], [one, replace(one, model="copy", source="copy")]).fusions
    other = judged_set("other", queries=100)
    runs = [run_of(judged, label, 2.5, seed=1) for judged in (dev, other) for label in ("one", "copy")]
    said = [line for line in advice_of([dev, other], runs).sentences if "fusion" in line]
    assert len(said) == 1
    assert said[0].startswith(
        "On dev and other, no fusion of two models is shown to beat the better one; the best, of "
    )
    assert advice_of([dev], [one, replace(one, model="variant")]).fusions == ()
    assert not copied.beats
    # 20 ms each: both together are over 30 ms.
    assert advice_of([dev], [one, two], budget_ms=30).fusions == ()


def test_what_a_reader_must_know() -> None:
    dev = judged_set()
    some = replace(
        dev,
        queries=tuple(
            replace(query, candidates=tuple(replace(one, gain=one.gain or None) for one in query.candidates))
            for query in dev.queries
        ),
    )
    run = run_of(some, "m", 4.0)
    broken = replace(run, queries=(replace(run.queries[0], scores=(), error="no answer"), *run.queries[1:]))
    said = text_of(advice_of([some], [broken]))
    (judged,) = (line for line in advice_of([some], [broken]).sentences if "are judged" in line)
    assert re.match(r"Caution: not all documents that m ranks first are judged \(1\d% on dev\), and the others", judged)
    assert "Caution: m failed on 1 queries of dev, which count as 0." in said
