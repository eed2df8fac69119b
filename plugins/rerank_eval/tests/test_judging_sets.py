"""Sets with the labels of a judge: the pool, kept verdicts, agreement with hand-made labels."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from helpers.grading_server import KEY, GradingServer, grading_server
from rerank_core import InputError, Reranker, RerankError
from rerank_core.testing import fake_spec
from rerank_eval.judging.endpoint_judge import EndpointJudge
from rerank_eval.judging.judge import Verdict
from rerank_eval.judging.judge_set import Judgement, judge_set
from rerank_eval.judging.kept_verdicts import KeptVerdicts
from rerank_eval.judging.model_judge import ModelJudge
from rerank_eval.runs.model_run import ModelRun, QueryRun
from rerank_eval.sets.judged_set import JudgedSet
from rerank_eval.sets.read import read_set

WORDS = ["red", "panda", "eats", "green", "bamboo", "near", "tall", "trees"]


@pytest.fixture
def server() -> Iterator[GradingServer]:
    pytest.importorskip("openai", reason="the client library of rerank-eval[judge] is not installed")
    with grading_server() as running:
        yield running


@pytest.fixture
def judge(server: GradingServer) -> Iterator[EndpointJudge]:
    made = EndpointJudge(server.url, "tiny", KEY)
    yield made
    made.close()


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[KeptVerdicts]:
    made = KeptVerdicts(tmp_path / "folder" / "verdicts.sqlite")
    yield made
    made.close()


def animals(tmp_path: Path, *, labels: bool = False, queries: int = 12) -> JudgedSet:
    """Queries of three words; document ``at`` of a query shares some of them. Labels are the number of shared words."""
    rows = []
    for number in range(queries):
        query = [WORDS[(number + step) % 8] for step in range(3)]
        docs = [" ".join([*query[: at % 4], f"text{number}", str(at)]) for at in range(8)]
        label = {"labels": [at % 4 for at in range(8)]} if labels else {}
        rows.append({"query": " ".join(query), "docs": docs, **label, "id": f"q{number}", "source": "x"})
    # Eight different queries, each once or twice: give every one its own words.
    rows = [{**row, "query": f"{row['query']} query{number}"} for number, row in enumerate(rows)]
    path = tmp_path / "animals.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return read_set(str(path), need_labels=False)


def run_of(judged: JudgedSet, name: str, scores: Mapping[str, float], fingerprint: str = "") -> ModelRun:
    """A model that scores documents by their number."""
    queries = tuple(
        QueryRun(query.id, tuple(scores.get(one.text.split()[-1], 0.0) for one in query.candidates), 0.01)
        for query in judged.queries
    )
    return ModelRun(name, name, {}, fingerprint, judged.digest, queries)


# Documents 3 and 7 share all words with the query, 2 and 6 two, 1 and 5 one, 0 and 4 none.
GOOD = {"3": 9.0, "7": 8.0, "2": 7.0, "6": 6.0}
POOR = {"0": 9.0, "1": 8.0, "2": 7.0, "3": 6.0}


def gains(found: JudgedSet) -> list[dict[str, float | None]]:
    return [{one.text.split()[-1]: one.gain for one in query.candidates} for query in found.queries]


def test_the_best_of_every_model_are_judged(
    tmp_path: Path, server: GradingServer, judge: EndpointJudge, kept: KeptVerdicts
) -> None:
    judged = animals(tmp_path)
    runs = [run_of(judged, "good", GOOD), run_of(judged, "poor", POOR)]
    result = judge_set(judged, runs, judge, kept, depth=2)
    assert gains(result.set) == [{"0": 0.0, "1": 1.0, "3": 3.0, "7": 3.0, **dict.fromkeys("2456")}] * 12
    assert result.set.facts.unjudged == 12 * 4
    grades = "12 of grade 0, 12 of grade 1, 24 of grade 3"
    assert result.facts.notes() == [
        f"labels are those of tiny, for the 2 best candidates of each model: 48 pairs, {grades}"
    ]
    assert len(server.seen) == 48
    assert (result.agreement, result.order) == (None, None)
    assert result.set.digest == judged.digest
    assert list(result.runs) == runs


def test_no_verdict_is_asked_for_twice(
    tmp_path: Path, server: GradingServer, judge: EndpointJudge, kept: KeptVerdicts
) -> None:
    """An interrupted run goes on, and equals an uninterrupted one; another model adds only its own documents."""
    judged = animals(tmp_path)
    runs = [run_of(judged, "good", GOOD)]

    def stopped(verdicts: Iterable[tuple[int, Verdict]], done: int, total: int) -> Iterator[tuple[int, Verdict]]:
        assert (done, total) == (0, 24)
        yield from islice(verdicts, 5)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        judge_set(judged, runs, judge, kept, depth=2, watch=stopped)
    first = judge_set(judged, runs, judge, kept, depth=2)
    assert first.facts.kept == 5
    asked = len(server.seen)
    again = judge_set(judged, runs, judge, kept, depth=2)
    assert again == replace(first, facts=replace(first.facts, kept=24))
    assert len(server.seen) == asked
    with_poor = judge_set(judged, [*runs, run_of(judged, "poor", POOR)], judge, kept, depth=2)
    assert len(server.seen) == asked + 24
    assert with_poor.facts.kept == 24
    other = EndpointJudge(server.url, "other", KEY)
    assert judge_set(judged, runs, other, kept, depth=2).facts.kept == 0
    other.close()


def test_malformed_and_failed_verdicts_are_counted_and_not_labels(
    tmp_path: Path, server: GradingServer, judge: EndpointJudge, kept: KeptVerdicts
) -> None:
    judged = animals(tmp_path)
    runs = [run_of(judged, "good", GOOD), run_of(judged, "poor", POOR)]
    wrong = judged.queries[0].candidates
    answers: dict[str, object] = {"3": "I would say 2 or 3.", "7": 400, "0": 400}
    server.said = {one.text: said for one in wrong for at, said in answers.items() if one.text.endswith(f" {at}")}
    result = judge_set(judged, runs, judge, kept, depth=2)
    assert result.facts.malformed == 1
    assert result.facts.failed == 2
    assert "1 answers had no grade, such as 'I would say 2 or 3.': not judged" in result.facts.notes()
    assert result.facts.notes()[-1].startswith("2 calls failed: not judged; the first: the endpoint")
    assert result.set.facts.unjudged == 12 * 4 + 3
    # A failed call is made again, a malformed answer at temperature 0 is not.
    asked = len(server.seen)
    again = judge_set(judged, runs, judge, kept, depth=2)
    assert len(server.seen) == asked + 2
    assert again.facts == replace(result.facts, kept=46)


def test_queries_without_a_relevant_document_are_left_out_of_set_and_runs(
    tmp_path: Path, server: GradingServer, judge: EndpointJudge, kept: KeptVerdicts
) -> None:
    judged = animals(tmp_path)
    other = replace(judged, name="other", queries=judged.queries[1:])
    runs = [run_of(judged, "good", GOOD), run_of(other, "good", GOOD)]
    server.said = {one.text: "0" for one in judged.queries[0].candidates}
    server.said |= {one.text: "3" for one in judged.queries[1].candidates}
    result = judge_set(judged, runs, judge, kept, depth=3)
    assert [query.id for query in result.set.queries] == ["q1", *(f"q{at}" for at in range(2, 12))]
    assert (result.set.facts.without_positive, result.set.facts.without_negative) == (1, 0)
    assert [query.id for query in result.runs[0].queries] == [query.id for query in result.set.queries]
    assert result.runs[0].set_digest == result.set.digest != judged.digest
    assert result.runs[1] == runs[1]
    server.said = {}
    kept.close()
    for query in judged.queries:
        server.said |= {one.text: "0" for one in query.candidates}
    with pytest.raises(InputError, match="no usable query: 12 of 12 queries left out: no positive"):
        judge_set(judged, runs, judge, KeptVerdicts(tmp_path / "anew.sqlite"), depth=3)


def test_agreement_with_hand_made_labels(
    tmp_path: Path, server: GradingServer, judge: EndpointJudge, kept: KeptVerdicts
) -> None:
    """The labels are the number of shared words, which is what the server gives."""
    judged = animals(tmp_path, labels=True)
    runs = [run_of(judged, "good", GOOD), run_of(judged, "poor", POOR)]
    perfect = judge_set(judged, runs, judge, kept, depth=2)
    agreement = perfect.agreement
    assert agreement is not None
    # The pool of 48, and the other labelled pairs, fewer than 500.
    assert (agreement.pairs, agreement.queries, agreement.share) == (96, 12, 1.0)
    assert agreement.kappa is not None
    assert (agreement.kappa.mean, agreement.kappa.low, agreement.kappa.high) == (1.0, 1.0, 1.0)
    assert agreement.weighted_kappa == 1.0
    assert agreement.table == {(0, 0): 24, (1, 1): 24, (2, 2): 24, (3, 3): 24}
    assert perfect.order is not None
    assert (perfect.order.tau, perfect.order.reversed, perfect.order.queries) == (1.0, (), 12)
    assert perfect.order.by_hand == perfect.order.by_judge
    assert perfect.order.by_hand["good"] > perfect.order.by_hand["poor"]
    # A judge that reads the grades the wrong way round.
    for query in judged.queries:
        server.said |= {one.text: str(3 - round(one.gain or 0)) for one in query.candidates}
    wrong = judge_set(judged, runs, judge, KeptVerdicts(tmp_path / "wrong.sqlite"), depth=2)
    assert wrong.agreement is not None
    assert wrong.agreement.kappa is not None
    assert wrong.agreement.kappa.mean == -1.0
    assert wrong.order is not None
    assert (wrong.order.tau, wrong.order.reversed) == (-1.0, (("good", "poor"),))


def scored(judged: JudgedSet, judge: ModelJudge, kept: KeptVerdicts) -> Judgement:
    return judge_set(judged, [run_of(judged, "good", GOOD), run_of(judged, "poor", POOR)], judge, kept, depth=3)


class Shared:
    """A `TextScorer`: the number of shared words less 1.5."""

    def identity(self) -> Mapping[str, str]:
        return {"of": "this test"}

    def score(self, query: str, docs: Sequence[str]) -> list[float]:
        if any("fail" in doc for doc in docs):
            raise RerankError("this text cannot be scored")
        return [sum(word in doc.split() for word in query.split()) - 1.5 for doc in docs]


@pytest.mark.parametrize("space", ["logit", "cosine"])
def test_a_reranker_judges_by_its_scores(space: str, tmp_path: Path, kept: KeptVerdicts) -> None:
    judge = ModelJudge(Reranker.from_scorer(Shared(), fake_spec("shared", score_space=space)), "shared")
    labelled = scored(animals(tmp_path, labels=True), judge, kept)
    assert labelled.facts.cut_from == "fitted to 96 labels"
    assert -0.5 < (labelled.facts.cut or 9) < 0.5
    assert labelled.facts.grades == {0.0: 48, 1.0: 48}
    assert labelled.agreement is not None
    assert (labelled.agreement.pairs, labelled.agreement.share) == (96, 1.0)
    assert labelled.agreement.weighted_kappa is None
    bare = animals(tmp_path)
    if space == "cosine":
        with pytest.raises(InputError, match=r"scores of 'shared' are no probabilities, .* give 10 relevant"):
            scored(bare, judge, kept)
        return
    found = scored(bare, judge, kept)
    assert (found.facts.cut, found.facts.cut_from) == (0.0, "the model's own probability of 0.5")
    # The raw scores were kept with the labelled set.
    assert found.facts.kept == found.facts.pairs == 12 * 5
    assert gains(found.set)[0] == {"0": 0.0, "1": 0.0, "2": 1.0, "3": 1.0, "7": 1.0, **dict.fromkeys("456")}


def test_a_judge_that_is_one_of_the_models_is_named(tmp_path: Path, kept: KeptVerdicts) -> None:
    judge = ModelJudge(Reranker.from_scorer(Shared(), fake_spec("self")), "self")
    judged = animals(tmp_path, labels=True)
    runs = [run_of(judged, "self", GOOD, judge.identity), run_of(judged, "poor", POOR)]
    notes = judge_set(judged, runs, judge, kept).facts.notes()
    assert notes[-1] == "the judge is one of the models, and prefers its own order"


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.sqlite"
    path.write_text("no database, but a text that is long enough for its header to be read" * 20)
    with pytest.raises(InputError, match=r"verdicts cannot be kept in .*verdicts.sqlite': file is not a database"):
        KeptVerdicts(path)
