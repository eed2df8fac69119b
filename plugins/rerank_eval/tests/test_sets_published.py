"""Runs of TREC DL 2019 give their published figures."""

from __future__ import annotations

import os
from pathlib import Path
from statistics import fmean
from types import ModuleType

import pytest

from helpers.scripts import module_of
from rerank_eval.figures.orders import scores_of_order
from rerank_eval.figures.query_values import measured, values_of_scores
from rerank_eval.sets.judged_set import JudgedSet, SetFacts
from rerank_eval.sets.read import read_set

# The readers of the data leave the closing of files to the garbage collector.
pytestmark = [
    pytest.mark.data,
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def readers() -> ModuleType:
    """Readers of the judged data."""
    folder = os.environ.get("RERANK_DATA")
    if not folder:
        pytest.skip("RERANK_DATA is not set: it names the folder with the judged data")
    return module_of(Path(folder) / "readers.py")


@pytest.mark.parametrize(("retriever", "published"), [("bm25", 0.5058), ("splade_pp_ed", 0.7308)])
def test_the_order_of_a_run_has_its_published_figure(
    retriever: str, published: float, readers: ModuleType, tmp_path: Path
) -> None:
    """nDCG@10 of BM25 and SPLADE++ (ED), as Pyserini and RankZephyr's authors report them."""
    topics, docs, run = {}, {}, []
    for query, text, candidates in readers.trecdl(19, retriever):
        topics[query] = text
        docs.update({key: passage for key, passage, _ in candidates})
        run += [f"{query} Q0 {key} {rank} {-rank} x" for rank, (key, _, _) in enumerate(candidates, start=1)]
    (tmp_path / "topics.tsv").write_text("\n".join(f"{key}\t{text}" for key, text in topics.items()), encoding="utf-8")
    (tmp_path / "docs.tsv").write_text("\n".join(f"{key}\t{text}" for key, text in docs.items()), encoding="utf-8")
    (tmp_path / "run.trec").write_text("\n".join(run), encoding="utf-8")
    qrels = Path(readers.D) / "en_trecdl" / "qrels.dl19-passage.txt"
    files = f"queries={tmp_path}/topics.tsv,docs={tmp_path}/docs.tsv,run={tmp_path}/run.trec,qrels={qrels}"

    found = read_set(f"dl19={files}")

    assert [len(query.candidates) for query in found.queries] == [100] * 43
    assert round(file_order(found), 4) == published
    assert found.facts == SetFacts(read=43, unjudged=found.facts.unjudged)
    assert 0 < found.facts.unjudged < 4300
    texts = {one.id: one.text for one in found.queries[0].candidates}
    assert texts.items() <= docs.items()


def file_order(judged: JudgedSet) -> float:
    """nDCG@10 of the candidates in their order."""
    scores = [scores_of_order(range(len(query.candidates))) for query in judged.queries]
    return fmean(measured(values_of_scores(judged, scores, ["nDCG@10"])["nDCG@10"]))


def test_nfcorpus_is_read_from_its_archive(readers: ModuleType) -> None:
    """BM25 over the collection: nDCG@10 about .32, as published for BEIR (.325 with Lucene's analyser)."""
    found = read_set(str(Path(readers.D) / "en_nfcorpus" / "nfcorpus.zip"))
    assert found.facts.read == 323
    docs, queries, qrels = readers.nfcorpus()
    for query in found.queries:
        assert query.text == queries[query.id]
        gains = {one.id: one.gain for one in query.candidates if one.gain is not None}
        assert {**gains, **query.others} == qrels[query.id]
        assert all(one.text.strip() == docs[one.id] for one in query.candidates)
    assert 0.28 < file_order(found) < 0.34
