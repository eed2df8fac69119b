"""The BCE spec scores a checkpoint of its architecture like a reranker should, with the sigmoid of its authors."""

from __future__ import annotations

from pathlib import Path

import pytest

import rerank_core
from rerank_core import Reranker
from rerank_core.pipeline.display import sigmoid
from rerank_core.testing import ScorerConformance, tiny_cross_encoder

PANDA = (
    "The giant panda (Ailuropoda melanoleuca), sometimes called a panda bear or simply panda, is a bear species "
    "endemic to China."
)


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> Reranker:
    """A tiny random XLM-R under the spec of the family."""
    folder = tiny_cross_encoder(tmp_path_factory.mktemp("bce"), "xlm-roberta")
    return rerank_core.load("bce-reranker-base", checkpoint=folder, device="cpu", max_length=64)


class TestBceReranker(ScorerConformance):
    """The conformance suite over a tiny random XLM-R."""

    def test_shows_probabilities_and_scores_raw(self, reranker: Reranker) -> None:
        """A ranking shows what BCEmbedding shows, a sigmoid; `score` stays raw; "none" switches it off."""
        ranking = reranker.rerank("what is panda?", ["hi", PANDA])
        raw = reranker.score([("what is panda?", "hi"), ("what is panda?", PANDA)])

        assert (ranking.score_space, ranking.activation) == ("probability", "sigmoid")
        assert ranking.scores() == pytest.approx([sigmoid(score) for score in raw], abs=1e-12)
        assert reranker.rerank("what is panda?", ["hi", PANDA], activation="none").scores() == pytest.approx(raw)


def test_spec_holds_the_published_facts() -> None:
    """Hub id as alias, a pinned revision, always a sigmoid, 512 tokens (scoring.md §1)."""
    spec = next(spec for spec in rerank_core.models() if spec.name == "bce-reranker-base")

    assert "maidalun1020/bce-reranker-base_v1" in spec.names
    assert (spec.activation, spec.raw_space, spec.max_length) == ("sigmoid", "logit", 512)
    assert spec.revision is not None
    assert len(spec.revision) == 40


def test_reads_long_passages_as_bcembedding_does(tmp_path: Path) -> None:
    """Windows of ``max_length - len(query with specials) - 2`` tokens, ``min(80, W // 4)`` of them shared, and the best
    one's score (scoring.md §5.1); the framework itself is asked in tests/parity."""
    folder = tiny_cross_encoder(tmp_path / "bce", "xlm-roberta")
    reranker = rerank_core.load("bce-reranker-base", checkpoint=folder, device="cpu", compat="bcembedding")
    scorer = reranker.scorer
    query, document = "what is panda?", PANDA * 40
    asked, length = (len(scorer.tokenize([text], "doc")[0]) for text in (query, document))
    width = 512 - (asked + 2) - 2
    step = width - min(80, width // 4)
    hit = reranker.rerank(query, [document])[0]

    assert len(hit.passages) == 1 + -(-(length - width) // step) > 2
    assert hit.score == pytest.approx(sigmoid(max(passage.score for passage in hit.passages)))
