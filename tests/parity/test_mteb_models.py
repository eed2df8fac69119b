"""Our models in `mteb.evaluate`: its figures are those of `rerank eval`, and so are the files of its results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import rerank_core
from helpers.models.causal import layered
from parity.conftest import Originals
from rerank_core import Head, ModelSpec, Template
from rerank_core.testing import tiny_causal_lm, tiny_cross_encoder, tiny_encoder
from rerank_eval.figures.evaluate import evaluate
from rerank_eval.runs.model_choice import ModelChoice
from rerank_eval.runs.run_models import Silent, run_models
from rerank_eval.suites.folder import read_task
from rerank_eval.suites.tasks import SUITES

Row = dict[str, Any]
T2 = SUITES["cmteb-reranking"][0]
WORDS = [
    "panda",
    "bear",
    "bamboo",
    "fish",
    "river",
    "mountain",
    "red",
    "car",
    "train",
    "house",
    "dog",
    "cat",
    "tree",
    "lake",
    "moon",
]


def rows(count: int = 12) -> list[Row]:
    """Queries whose documents share words with them, copies of texts and of a query, and one without a negative."""
    made = [
        {
            "query": f"what of the {WORDS[at % 15]} and the {WORDS[(at + 3) % 15]}",
            "positive": [f"the {WORDS[at % 15]} has a {WORDS[(at + step) % 15]}" for step in range(1, 2 + at % 3)],
            "negative": [f" a {WORDS[(at + step) % 15]} is no {WORDS[(at * step) % 15]}\n" for step in range(3, 12)]
            * 2,
        }
        for at in range(count)
    ]
    return [*made, {**made[0], "negative": made[1]["negative"]}, {**made[2], "negative": []}]


def write(folder: Path, name: str, data: list[Row]) -> Path:
    folder.mkdir(exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in data)
    (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    return folder


def check_equal(mteb: Originals, folder: Path, data: list[Row], source: str, options: Row) -> Row:
    """mteb's values of every query, and its means, are those of `rerank eval`."""
    judged = read_task(write(folder / "data", "T2Reranking", data), T2)
    choice = ModelChoice(source, options, "model")
    runs = run_models([choice], [judged], results=folder / "kept", watcher=Silent())
    assert runs[0].reason is None
    evaluation = evaluate([judged], runs, ["map_at_1000", "nDCG@10"])
    (row,) = [one for one in evaluation.rows if one.kind == "model"]

    theirs: Row = mteb.send(
        call="by_mteb", name="T2Reranking", rows=data, source=source, options=options, folder=str(folder / "mteb")
    )

    for ours, name, mean in (("map_at_1000", "map_cut_1000", "map_at_1000"), ("nDCG@10", "ndcg_cut_10", "ndcg_at_10")):
        assert row.per_query[ours] == pytest.approx(theirs["values"][name], abs=1e-6)
        assert round(row.figures[ours].mean, 5) == pytest.approx(theirs["result"][mean], abs=1e-5)
    assert theirs["result"]["main_score"] == theirs["result"]["map_at_1000"]
    assert theirs["meta"]["revision"] == theirs["meta"]["fingerprint"] == runs[0].fingerprint
    return theirs


def test_late_interaction(mteb_models: Originals, tmp_path: Path) -> None:
    """`mini`, through mteb's search; in a few windows a document."""
    theirs = check_equal(mteb_models, tmp_path, rows(), "mini", {"max_length": 16})
    assert theirs["protocols"] == ["SearchProtocol"]
    assert theirs["meta"]["name"] == "rerank-core/mini"
    assert theirs["meta"]["model_type"] == ["late-interaction"]
    assert theirs["meta"]["loader_kwargs"] == {"max_length": 16}


def test_a_cross_encoder(mteb_models: Originals, tmp_path: Path) -> None:
    model = tiny_cross_encoder(tmp_path / "tiny", "bert")
    theirs = check_equal(mteb_models, tmp_path, rows(), str(model), {"device": "cpu"})
    assert theirs["protocols"] == ["CrossEncoderProtocol"]
    assert theirs["meta"]["name"] == "local/tiny"
    assert theirs["meta"]["is_cross_encoder"]


def test_an_embedding_model(mteb_models: Originals, tmp_path: Path) -> None:
    model = tiny_encoder(tmp_path / "embedding", "bert")
    spec = ModelSpec(name="embedding", template=Template.each(), head=Head.cosine("mean"), max_length=64)
    rerank_core.write_spec(spec, model)
    theirs = check_equal(mteb_models, tmp_path, rows(), str(model), {"device": "cpu"})
    assert theirs["protocols"] == ["EncoderProtocol", "SearchProtocol"]
    assert theirs["meta"]["model_type"] == ["dense"]
    assert theirs["meta"]["embed_dim"] > 0


def test_a_cascade(mteb_models: Originals, tmp_path: Path) -> None:
    """The best five documents by an early layer are scored by a later one; mteb gets the order."""
    base = tiny_causal_lm(tmp_path / "base", "llama", tokenizer="sentencepiece", layers=4)
    module, tokenizer = layered(base, range(2, 5, 2))
    template = Template(before="{bos}", query="Q: {query}", between="\n", doc="D: {doc}")
    for part in (module, tokenizer):
        part.save_pretrained(str(tmp_path / "cascade"))
    rerank_core.write_spec(ModelSpec(name="layers", template=template, head=Head.layers(2, 2)), tmp_path / "cascade")
    options = {"device": "cpu", "cascade": {"2": 5}}
    theirs = check_equal(mteb_models, tmp_path, rows(), str(tmp_path / "cascade"), options)
    assert theirs["protocols"] == ["SearchProtocol"]


@pytest.mark.data
def test_chinese_passages(mteb_models: Originals, data: Path, tmp_path: Path) -> None:
    """T2Rank100's first queries with `mini-multilingual`, whose long passages are read in windows."""
    lines = (data / "zh_t2rank100" / "t2rank_100.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines[:4]]
    found = [
        {
            "query": one["query"],
            "positive": [text[:300] for text in one["pos"]],
            "negative": [text[:300] for text in one["neg"]],
        }
        for one in records
    ]
    check_equal(mteb_models, tmp_path, found, "mini-multilingual", {"max_length": 128})


def test_a_search_of_a_corpus(mteb_models: Originals) -> None:
    """A retrieval task without candidates: every document is scored, and the best count."""
    corpus = [{"id": word, "title": "", "text": f"all about the {word}"} for word in WORDS]
    queries = [{"id": f"q-{word}", "text": f"tell me about the {word}"} for word in WORDS[:5]]
    qrels = {f"q-{word}": {word: 1} for word in WORDS[:5]}
    asked = {"corpus": corpus, "queries": queries, "qrels": qrels}
    found = mteb_models.send(call="search", source="mini", options={}, **asked)["result"]
    with rerank_core.load("mini") as reranker:
        texts = [one["text"] for one in corpus]
        tops = [reranker.rerank(one["text"], texts, top_k=1)[0].index for one in queries]
    expected = sum(corpus[top]["id"] == WORDS[at] for at, top in enumerate(tops)) / 5
    assert found["recall_at_1"] == pytest.approx(expected)
    assert found["recall_at_1"] > 0.5


def test_a_folder_is_what_the_hub_gives(mteb_models: Originals, tmp_path: Path) -> None:
    """For each task: the same queries, candidates and judgements in the same order."""
    for task in SUITES["cmteb-reranking"]:
        write(tmp_path, task.name, rows())
        assert mteb_models.send(call="same_set", name=task.name, rows=rows(), folder=str(tmp_path)) == []


def test_results_of_the_command_are_those_of_mteb(mteb_models: Originals, tmp_path: Path) -> None:
    """Every metric in the files of ``--mteb-results`` equals that of `mteb.evaluate`, in a folder of the same name."""
    model = str(tiny_cross_encoder(tmp_path / "tiny", "bert"))
    folder = write(tmp_path / "data", "T2Reranking", rows())
    direct = mteb_models.send(
        call="by_mteb", name="T2Reranking", rows=rows(), source=model, options={}, folder=str(tmp_path / "direct")
    )

    answer = mteb_models.send(
        call="by_command",
        arguments=[
            "-m",
            model,
            "--suite",
            "T2Reranking",
            "--suite-data",
            str(folder),
            "--results",
            str(tmp_path / "kept"),
        ],
        results=str(tmp_path / "written"),
    )

    ((name, written),) = [(name, file) for name, file in answer["files"].items() if name.endswith("T2Reranking.json")]
    assert name == f"local__tiny/{direct['meta']['fingerprint']}/T2Reranking.json"
    assert written["dataset_revision"].startswith("local-")
    assert written["evaluation_time"] > 0
    (scores,) = written["scores"]["dev"]
    numbers = [{name: own[name] for name in own if isinstance(own[name], float)} for own in (scores, direct["result"])]
    assert len(numbers[0]) > 100
    assert numbers[0] == pytest.approx(numbers[1], nan_ok=True, abs=1e-6)  # its files have six decimals
    (ours,) = [row for row in answer["evaluation"]["sets"][0]["rows"] if row["kind"] == "model"]
    assert round(ours["figures"]["map_at_1000"]["mean"], 5) == pytest.approx(scores["map_at_1000"], abs=1e-5)
