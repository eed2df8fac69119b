"""Test tools for plugin authors: a conformance suite, fake scorers and tiny checkpoints.

The conformance suite tests what every reranker of this library must do. Subclass it beside a fixture named
``reranker``, and pytest runs its tests on your model::

    import pytest
    import rerank_core
    from rerank_core.testing import ScorerConformance

    @pytest.fixture(scope="module")
    def reranker():
        return rerank_core.load("acme-small")

    class TestAcme(ScorerConformance):
        pass

- `FakeScorer`, `FakeSeparate`, `FakeCascade`, `FakeTextScorer` and `FakeListRanker` implement each scorer protocol
  without a model and without torch; `fake_spec` makes a `ModelSpec` for them.
- `tiny_cross_encoder`, `tiny_encoder`, `tiny_causal_lm` and `tiny_encoder_decoder` write checkpoints with random
  weights in about a second. They need ``pip install 'rerank-core[torch]'``.
"""

from rerank_core.testing.checkpoints import tiny_cross_encoder, tiny_encoder
from rerank_core.testing.conformance import ScorerConformance
from rerank_core.testing.decoders import tiny_causal_lm
from rerank_core.testing.encoder_decoders import tiny_encoder_decoder
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
    "tiny_encoder_decoder",
]
