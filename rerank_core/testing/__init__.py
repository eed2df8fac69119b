"""For plugin authors: fake scorers of every shape, tiny checkpoints, and the conformance suite.

    from rerank_core.testing import ScorerConformance

    @pytest.fixture(scope="module")
    def reranker():
        return rerank_core.load("acme-small")

    class TestAcme(ScorerConformance):
        pass

`tiny_cross_encoder`, `tiny_encoder` and `tiny_causal_lm` build random checkpoints in a second; they need
``rerank-core[torch]``, the fakes need nothing.
"""

from rerank_core.testing.checkpoints import tiny_cross_encoder, tiny_encoder
from rerank_core.testing.conformance import ScorerConformance
from rerank_core.testing.decoders import tiny_causal_lm
from rerank_core.testing.fakes import (
    FakeCascade,
    FakeListRanker,
    FakeScorer,
    FakeSeparate,
    FakeTextScorer,
    fake_spec,
)

__all__ = [
    "FakeCascade",
    "FakeListRanker",
    "FakeScorer",
    "FakeSeparate",
    "FakeTextScorer",
    "ScorerConformance",
    "fake_spec",
    "tiny_causal_lm",
    "tiny_cross_encoder",
    "tiny_encoder",
]
