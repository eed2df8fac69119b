"""A reranker as a judge: where its scores become relevant, and what it is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from rerank_core import InputError, ModelOption, Reranker, RerankError, write_calibration
from rerank_core.measures import CalibrationMap
from rerank_core.testing import FakeListRanker, fake_spec
from rerank_eval.judging.judge import Pair, Verdict
from rerank_eval.judging.model_judge import ModelJudge
from rerank_eval.judging.relevance_cut import grades_of_scores


class Shared:
    """A `TextScorer`: the number of shared words less 1.5."""

    def identity(self) -> Mapping[str, str]:
        return {"of": "this test"}

    def score(self, query: str, docs: Sequence[str]) -> list[float]:
        if any("fail" in doc for doc in docs):
            raise RerankError("this text cannot be scored")
        return [sum(word in doc.split() for word in query.split()) - 1.5 for doc in docs]


@pytest.mark.parametrize("labels", [False, True])
def test_a_calibrated_reranker_judges_by_its_probability(labels: bool, tmp_path: Path) -> None:
    """Two shared words, a score of 0.5, have a probability below a half; also where labels say otherwise."""
    spec = fake_spec("shared", score_space="cosine")
    path = write_calibration(
        tmp_path / "shared.json", Reranker.from_scorer(Shared(), spec), CalibrationMap("platt", 2.0, -2.0)
    )
    judge = ModelJudge(Reranker.from_scorer(Shared(), spec, calibration=path), "shared")
    scores = {(query, at): at - 1.5 for query in range(12) for at in range(4)}
    found = grades_of_scores(scores, {place: float(place[1] > 0) for place in scores} if labels else {}, judge)
    assert (found.cut, found.origin) == (1.0, "a calibrated probability of 0.5")
    assert found.grades == found.held_out == {place: float(place[1] == 3) for place in scores}
    calibrated = fake_spec("shared", calibrated={"method": "platt"})
    published = ModelJudge(Reranker.from_scorer(Shared(), calibrated), "shared")
    assert (published.cut, published.is_calibrated) == (0.0, True)


def test_a_calibration_that_calls_nothing_relevant_is_no_judge(tmp_path: Path) -> None:
    plain, never = Reranker.from_scorer(Shared(), fake_spec("shared")), CalibrationMap("isotonic", points=((0.0, 0.4),))
    path = write_calibration(tmp_path / "shared.json", plain, never)
    with pytest.raises(InputError, match=r"gives none of the scores of 'shared' a probability of 0\.5"):
        ModelJudge(Reranker.from_scorer(Shared(), fake_spec("shared"), calibration=path), "shared")


class Instructed:
    """A `TextScorer` that scores by its instruction."""

    def __init__(self) -> None:
        self.instruction: object = None

    def configured(self, options: Mapping[str, object]) -> Instructed:
        made = Instructed()
        made.instruction = options["instruction"]
        return made

    def identity(self) -> Mapping[str, str]:
        return {"of": "this test"}

    def score(self, query: str, docs: Sequence[str]) -> list[float]:
        return [float(doc == self.instruction) for doc in docs]


def test_a_judge_gets_the_instruction_of_the_query() -> None:
    spec = fake_spec("told", options=(ModelOption("instruction", "str", "the task", when="call"),))
    judge = ModelJudge(Reranker.from_scorer(Instructed(), spec), "told")
    pairs = [Pair("q", "a", "a"), Pair("q", "b", "a"), Pair("q", "b", "b"), Pair("q", "b")]
    assert [verdict.value for _, verdict in judge.verdicts(pairs)] == [1.0, 0.0, 1.0, 0.0]


def test_a_text_that_a_reranker_cannot_score_is_one_failure() -> None:
    judge = ModelJudge(Reranker.from_scorer(Shared(), fake_spec("shared")), "shared")
    pairs = [Pair("a b", "a b"), Pair("a b", "fail"), Pair("a b", "")]
    assert [verdict for _, verdict in judge.verdicts(pairs)] == [
        Verdict(0.5),
        Verdict(None, error="this text cannot be scored"),
        Verdict(-1.5),
    ]


def test_a_model_that_orders_lists_is_no_judge() -> None:
    with pytest.raises(InputError, match="'lists' orders lists and gives no document a score"):
        ModelJudge(Reranker.from_scorer(FakeListRanker(), fake_spec("lists")), "lists")
