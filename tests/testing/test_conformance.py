"""The conformance suite holds for every fake, and fails for scorers that break a promise."""

from __future__ import annotations

import pytest

from rerank_core import Head, Reranker, Template
from rerank_core.testing import (
    FakeCascade,
    FakeListRanker,
    FakeScorer,
    FakeSeparate,
    FakeTextScorer,
    ScorerConformance,
    fake_spec,
)

pytest_plugins = ["pytester"]


class TestJoint(ScorerConformance):
    """A cross-encoder's shape."""

    @pytest.fixture(scope="class")
    @classmethod
    def reranker(cls) -> Reranker:
        return Reranker.from_scorer(FakeScorer("joint"), fake_spec())


class TestPrefix(ScorerConformance):
    """A causal model's shape."""

    @pytest.fixture(scope="class")
    @classmethod
    def reranker(cls) -> Reranker:
        return Reranker.from_scorer(FakeScorer("prefix"), fake_spec())


class TestSeparate(ScorerConformance):
    """Late interaction's shape, with an index."""

    @pytest.fixture(scope="class")
    @classmethod
    def reranker(cls) -> Reranker:
        return Reranker.from_scorer(FakeSeparate(), fake_spec(template=Template.each(), head=Head.maxsim("mean")))


class TestCascade(ScorerConformance):
    """A layerwise model's shape, everybody going on (with a cut, a score depends on the list by design)."""

    @pytest.fixture(scope="class")
    @classmethod
    def reranker(cls) -> Reranker:
        return Reranker.from_scorer(FakeCascade(keep=[10_000]), fake_spec())


class TestText(ScorerConformance):
    """A remote API's shape."""

    @pytest.fixture(scope="class")
    @classmethod
    def reranker(cls) -> Reranker:
        return Reranker.from_scorer(FakeTextScorer(), fake_spec())


class TestList(ScorerConformance):
    """A listwise model's shape."""

    @pytest.fixture(scope="class")
    @classmethod
    def reranker(cls) -> Reranker:
        return Reranker.from_scorer(FakeListRanker(), fake_spec())


BROKEN = {
    "order": "return Output({'score': [float(place) for place in range(len(batch.rows))]})",
    "neighbours": "return Output({'score': [len(r.ids) / max(len(x.ids) for x in batch.rows) for r in batch.rows]})",
}


@pytest.mark.parametrize(
    ("body", "caught"),
    [
        (BROKEN["order"], "test_order_does_not_matter"),
        (BROKEN["neighbours"], "test_neighbours_do_not_matter"),
        ("return Output({'score': [float('nan')] * len(batch.rows)})", "test_ranking_is_sorted_and_complete"),
        ("return Output({'score': [1.0] * (len(batch.rows) - 1)})", "test_ranking_is_sorted_and_complete"),
    ],
)
def test_suite_catches_a_scorer_that_breaks_a_promise(pytester: pytest.Pytester, body: str, caught: str) -> None:
    """Scores by position or by neighbour, NaN and lost rows each fail the test that is there for them."""
    pytester.makepyfile(
        f"""
        import pytest
        from rerank_core import Output, Reranker
        from rerank_core.testing import FakeScorer, ScorerConformance, fake_spec

        class Broken(FakeScorer):
            def forward(self, batch):
                {body}

        class TestBroken(ScorerConformance):
            @pytest.fixture
            def reranker(self):
                return Reranker.from_scorer(Broken("joint"), fake_spec())
        """
    )
    result = pytester.runpytest("-q", "-rf")
    assert any(caught in line for line in result.outlines if line.startswith("FAILED")), result.outlines


def test_suite_needs_nothing_but_one_fixture(pytester: pytest.Pytester) -> None:
    """An author's whole test-suite is a subclass with one fixture, and it passes."""
    pytester.makepyfile(
        """
        import pytest
        from rerank_core import Reranker
        from rerank_core.testing import FakeTextScorer, ScorerConformance, fake_spec

        @pytest.fixture(scope="module")
        def reranker():
            return Reranker.from_scorer(FakeTextScorer(), fake_spec())

        class TestAcme(ScorerConformance):
            pass
        """
    )
    outcomes = pytester.runpytest("-q").parseoutcomes()
    assert outcomes["passed"] > 20
    assert "failed" not in outcomes
