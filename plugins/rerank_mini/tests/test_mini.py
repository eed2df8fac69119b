"""`mini` keeps every promise of a reranker, offline, and ranks real text sensibly."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path

import pytest

import rerank_core
from rerank_core import Reranker
from rerank_core.testing import ScorerConformance


@pytest.fixture(scope="module")
def reranker() -> Reranker:
    """The real model with its real weights."""
    return rerank_core.load("mini", device="cpu")


class TestMini(ScorerConformance):
    """The whole conformance suite."""


def test_answer_beats_topic_beats_noise(reranker: Reranker) -> None:
    """The passage that answers ranks above the one on the topic, and that one above the rest."""
    docs = [
        "My bicycle has a flat tyre.",
        "The panda is on the flag of the World Wildlife Fund.",
        "A giant panda eats bamboo leaves and shoots for up to fourteen hours a day.",
    ]
    assert [hit.index for hit in reranker.rerank("what does a panda eat?", docs)] == [2, 1, 0]


@pytest.mark.data
def test_dl19_sample_is_ranked_better_than_by_bm25(reranker: Reranker) -> None:
    """On the first queries of TREC DL19, nDCG@10 is well above the order of the file (benchmarks/dl19.py has all)."""
    folder = os.environ.get("RERANK_DATA")
    if not folder:
        pytest.skip("RERANK_DATA is not set: it names the folder with the judged data")
    script = Path(__file__).resolve().parents[3] / "benchmarks" / "dl19.py"
    spec = importlib.util.spec_from_file_location("dl19", script)
    assert spec is not None
    assert spec.loader is not None
    dl19 = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(dl19)
    asked = dl19.requests(Path(folder))[:8]
    rankings = reranker.rerank_many([(query, docs) for _, query, docs in asked])
    judged = {query for query, _, _ in asked}
    ours = [
        dl19.ScoredDoc(query, str(hit.document.id), hit.score)
        for (query, _, _), ranking in zip(asked, rankings, strict=True)
        for hit in ranking
    ]
    bm25 = [dl19.ScoredDoc(query, doc["id"], -float(n)) for query, _, docs in asked for n, doc in enumerate(docs)]
    scores = [dl19.ndcg10(Path(folder), run, judged) for run in (ours, bm25)]

    assert scores[0] > scores[1] + 0.05, json.dumps(scores)
