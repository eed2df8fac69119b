"""BEIR folders, and queries, documents, judgements and runs in files of their own."""

from __future__ import annotations

import gzip
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from rerank_core import InputError
from rerank_eval.sets.judged_set import JudgedSet, SetFacts
from rerank_eval.sets.read import read_set

QUERIES = {
    "1": "what do pandas eat",
    "2": "熊猫吃什么",
    "3": "bears",
    "4": "unjudged",
    "5": "nothing relevant",
    "6": "xyzzy",
}
DOCS = {
    "d1": ("Pandas", "They eat bamboo."),
    "d2": ("", "大熊猫吃竹子。"),
    "d3": ("", "bears"),
    "d4": ("Brown bears", "Bears eat salmon."),
    "d5": ("", "Pandas eat what they find."),
    "1": ("", "A document with the id of a query; pandas eat it."),
}
QRELS = [("1", "d1", 2), ("1", "d4", 0), ("2", "d2", 1), ("3", "d3", 1), ("3", "d4", 1), ("5", "d1", 0), ("6", "d4", 1)]


@pytest.fixture
def beir(tmp_path: Path) -> Path:
    """A folder in BEIR's layout, with two splits."""
    folder = tmp_path / "animals"
    (folder / "qrels").mkdir(parents=True)
    corpus = [{"_id": key, "title": title, "text": text} for key, (title, text) in DOCS.items()]
    queries = [{"_id": key, "text": text, "metadata": {}} for key, text in QUERIES.items()]
    for name, records in (("corpus", corpus), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("\n".join(json.dumps(one) for one in records), encoding="utf-8")
    lines = ["query-id\tcorpus-id\tscore", *("\t".join(map(str, row)) for row in QRELS)]
    (folder / "qrels" / "test.tsv").write_text("\n".join(lines), encoding="utf-8")
    (folder / "qrels" / "dev.tsv").write_text("\n".join(lines[:2]), encoding="utf-8")
    return folder


def ids(found: JudgedSet) -> dict[str, list[str]]:
    """The ids of the candidates of each query."""
    return {query.id: [one.id for one in query.candidates] for query in found.queries}


def check_animals(found: JudgedSet) -> None:
    assert (found.name, found.order, found.first_stage) == ("animals", "first-stage", "BM25")
    assert found.queries[0].candidates[0].text.startswith("Pandas")
    assert set(ids(found)["1"]) == {"d1", "d4", "d5", "1"}
    # No word of a Chinese query is between spaces.
    assert ids(found)["2"] == ["d2"]
    # The query's own text is no candidate, although it is judged relevant.
    assert ids(found)["3"] == ["d4"]
    scores = [one.first_stage or 0.0 for one in found.queries[0].candidates]
    assert scores == sorted(scores, reverse=True)
    assert {one.id: one.gain for one in found.queries[0].candidates} == {"d1": 2.0, "d4": 0.0, "d5": None, "1": None}
    assert found.facts == SetFacts(read=5, without_positive=1, without_candidates=1, own_text=1, unjudged=2)


def test_a_beir_folder_is_searched_with_bm25(beir: Path) -> None:
    check_animals(read_set(str(beir)))
    assert ids(read_set(str(beir), top=1))["1"] == ids(read_set(str(beir)))["1"][:1]
    assert ids(read_set(f"{beir},split=dev")) == {"1": ids(read_set(str(beir)))["1"]}
    with pytest.raises(InputError, match="has no split 'train'; its splits are dev, test: name one with split="):
        read_set(f"{beir},split=train")
    (beir / "qrels" / "test.tsv").rename(beir / "qrels" / "train.tsv")
    with pytest.raises(InputError, match="has no split test; its splits are dev, train"):
        read_set(str(beir))


@pytest.mark.parametrize("prefix", ["", "animals/"])
def test_an_archive_of_a_beir_folder_is_read(prefix: str, beir: Path, tmp_path: Path) -> None:
    archive = tmp_path / "animals.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        for path in sorted(beir.rglob("*.*")):
            opened.write(path, f"{prefix}{path.relative_to(beir)}")
        opened.writestr("../../outside.jsonl", "{}")
    check_animals(read_set(str(archive)))
    assert not list(tmp_path.parent.glob("outside*"))


def test_compressed_files_of_a_beir_folder_are_read(beir: Path) -> None:
    corpus = beir / "corpus.jsonl"
    (beir / "corpus.jsonl.gz").write_bytes(gzip.compress(corpus.read_bytes()))
    with pytest.raises(InputError, match=r"has corpus.jsonl and corpus.jsonl.gz; name one with docs="):
        read_set(str(beir))
    corpus.unlink()
    check_animals(read_set(str(beir)))
    (beir / "corpus.jsonl.gz").unlink()
    with pytest.raises(InputError, match=r"no corpus.jsonl, so it is no BEIR folder; name the file with docs="):
        read_set(str(beir))


def trec(tmp_path: Path, run: str, qrels: Mapping[str, str] | None = None) -> str:
    """The value of ``--data`` for the same data in files of TREC and MS MARCO."""
    tmp_path.joinpath("topics.tsv").write_text("\n".join(f"{key}\t{text}" for key, text in QUERIES.items()))
    lines = [f"{key}\t{f'{title} {text}'.strip()}" for key, (title, text) in DOCS.items()]
    tmp_path.joinpath("docs.tsv").write_text("\n".join(lines), encoding="utf-8")
    tmp_path.joinpath("qrels.txt").write_text("\n".join(f"{query} 0 {doc} {grade}" for query, doc, grade in QRELS))
    tmp_path.joinpath("bm25.trec").write_text(run)
    files = {"queries": "topics.tsv", "docs": "docs.tsv", "qrels": "qrels.txt", "run": "bm25.trec"}
    return "animals=" + ",".join(f"{key}={tmp_path / name}" for key, name in files.items())


RUN = """\
1 Q0 d5 1 9.5 bm25
1 Q0 d1 2 9.0 bm25
1 Q0 d2 3 9.0 bm25
1 Q0 d1 4 8.0 bm25
2 Q0 d1 1 3 bm25
4 Q0 d1 1 3 bm25
5 Q0 d1 1 3 bm25
"""


def test_a_run_keeps_its_order_and_what_it_missed(tmp_path: Path) -> None:
    found = read_set(trec(tmp_path, RUN))
    assert (found.order, found.first_stage) == ("first-stage", "bm25")
    assert ids(found) == {"1": ["d5", "d1", "d2"], "2": ["d1"]}
    assert [query.others for query in found.queries] == [{"d4": 0.0}, {"d2": 1.0}]
    assert found.queries[0].candidates[1].text == "Pandas They eat bamboo."
    assert found.facts == SetFacts(
        read=6, not_judged=1, without_positive=1, without_candidates=2, missed=1, repeated_documents=1, unjudged=3
    )
    cut = read_set(trec(tmp_path, RUN), top=1)
    assert ids(cut) == {"1": ["d5"], "2": ["d1"]}
    assert cut.queries[0].others == {"d1": 2.0, "d4": 0.0}
    assert cut.facts.below_top == 2


def test_scores_count_where_ranks_contradict_them(tmp_path: Path) -> None:
    found = read_set(trec(tmp_path, "1 Q0 d5 1 1.0 x\n1 Q0 d1 2 2.0 x\n1 Q0 d2 3 2.0 x"))
    assert ids(found) == {"1": ["d1", "d2", "d5"]}
    assert found.facts.reordered == 1
    ranks = read_set(trec(tmp_path, "1\td5\t2\n1\td1\t1"))
    assert ids(ranks) == {"1": ["d1", "d5"]}
    assert ranks.queries[0].candidates[0].first_stage is None


def test_the_same_text_with_another_id_is_kept_and_counted(beir: Path) -> None:
    with (beir / "corpus.jsonl").open("a") as file:
        file.write('\n{"_id": "d6", "title": "Pandas", "text": "They eat bamboo."}')
    found = read_set(str(beir))
    assert {"d1", "d6"} <= set(ids(found)["1"])
    assert found.facts.equal_texts == 1


def test_a_collection_without_judgements_is_for_a_judge(tmp_path: Path) -> None:
    spec = trec(tmp_path, RUN).replace(f"qrels={tmp_path / 'qrels.txt'},", "")
    with pytest.raises(InputError, match="has no judgements; name them with qrels=, or use a judge"):
        read_set(spec)
    found = read_set(spec, need_labels=False)
    assert list(ids(found)) == ["1", "2", "4", "5"]
    assert found.facts == SetFacts(read=4, repeated_documents=1, unjudged=6)


def test_documents_of_rows_can_be_searched(tmp_path: Path) -> None:
    """A file of positives alone: the negatives of a query are what BM25 finds beside them."""
    rows = [
        {"query": "what do pandas eat", "positive": ["Pandas eat bamboo.", "Bamboo."], "id": "p"},
        {"query": "do bears eat salmon", "positive": ["Bears eat salmon."], "id": "b"},
    ]
    path = tmp_path / "train.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    found = read_set(f"{path},candidates=bm25")
    assert [[(one.id, one.gain) for one in query.candidates] for query in found.queries] == [
        [("p/0", 1.0), ("b/0", None)],
        [("b/0", 1.0), ("p/0", None)],
    ]
    assert found.queries[0].others == {"p/1": 1.0}
    assert (found.order, found.first_stage) == ("first-stage", "BM25")
    more = tmp_path / "more.jsonl"
    more.write_text('{"id": 7, "text": "Pandas eat bamboo."}\n{"id": 8, "text": "Foxes eat mice."}')
    searched = read_set(f"{path},candidates=bm25,docs={more}")
    assert [one.id for one in searched.queries[0].candidates][:1] == ["7"]
    assert {one.id for one in searched.queries[1].candidates} == {"b/0", "7", "8"}
    with pytest.raises(InputError, match=r"has docs=.*; documents are searched with candidates=bm25"):
        read_set(f"{path},docs={more}")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("qrels.txt", "1 0 d1", r"qrels.txt:1: the grade is 'd1'; it must be a number"),
        ("qrels.txt", "1 0 d1 1 x", r"qrels.txt:1: '1 0 d1 1 x' has 5 columns; a judgement has 4"),
        (
            "qrels.txt",
            "9 0 d1 1",
            r"1 queries of the judgements or the run have no text in .*topics.tsv', the first is '9'",
        ),
        ("bm25.trec", "1 Q0 d1 1 nan x", r"bm25.trec:1: the score is 'nan'"),
        ("bm25.trec", "1 Q0 d1 1 1.0 x\n1 d2 3", r"bm25.trec:2: '1 d2 3' has 3 columns; a line of a run has 6"),
        ("bm25.trec", "1 Q0 d9 1 1.0 x", r"1 documents of the run have no text in docs, the first is 'd9'"),
        ("docs.tsv", "d5\ta\nd1\tb\nd2\tc\nd1\tother", r"docs.tsv:4: the id 'd1' has two different texts"),
        ("topics.tsv", "1\t \n", r"topics.tsv:1: query '1' has a blank text"),
        ("topics.tsv", "1\ta\tb\n", r"topics.tsv:1: it has 3 columns; it must have 2 \(id, text\)"),
    ],
)
def test_a_fault_is_said_with_its_file_and_line(name: str, text: str, message: str, tmp_path: Path) -> None:
    spec = trec(tmp_path, RUN)
    tmp_path.joinpath(name).write_text(text)
    with pytest.raises(InputError, match=message):
        read_set(spec)


def test_judgements_of_every_format_are_equal(tmp_path: Path) -> None:
    spec = trec(tmp_path, RUN)
    expected = read_set(spec).queries
    records = [{"query-id": query, "corpus-id": doc, "score": grade} for query, doc, grade in QRELS]
    forms = {
        "qrels.jsonl": "\n".join(map(json.dumps, records)),
        "qrels.csv": "query-id,corpus-id,score\n" + "\n".join(",".join(map(str, row)) for row in QRELS),
        "three.txt": "\n".join(" ".join(map(str, row)) for row in QRELS),
        "twice.txt": "\n".join(f"{query} 0 {doc} {grade}" for query, doc, grade in [*QRELS, ("1", "d1", -1)]),
    }
    for name, text in forms.items():
        tmp_path.joinpath(name).write_text(text)
        found = read_set(spec.replace("qrels.txt", name))
        assert found.queries == expected, name
        assert found.facts.conflicting == (name == "twice.txt")


def test_ids_with_spaces_are_whole_between_tabs(tmp_path: Path) -> None:
    spec = trec(tmp_path, "1\tQ0\td 1\t1\t2.0\tbm25\n1\tQ0\td2\t2\t1.0\tbm25")
    tmp_path.joinpath("docs.tsv").write_text("d 1\tPandas\nd2\tb")
    tmp_path.joinpath("qrels.txt").write_text("1\t0\td 1\t1")
    assert ids(read_set(spec)) == {"1": ["d 1", "d2"]}


def test_a_document_with_the_id_of_a_query_is_a_copy_only_with_its_text(tmp_path: Path) -> None:
    """As in ArguAna, whose queries are documents with a title; a document that only ends like the query stays."""
    documents = {"1": ("", "all about tin"), "2": ("Tin", "a metal"), "3": ("Of tin", "a can of tin")}
    queries = {"1": "tin", "2": "a metal", "3": "of tin"}
    corpus = [{"_id": key, "title": title, "text": text} for key, (title, text) in documents.items()]
    (tmp_path / "corpus.jsonl").write_text("\n".join(map(json.dumps, corpus)))
    (tmp_path / "queries.jsonl").write_text(
        "\n".join(json.dumps({"_id": key, "text": text}) for key, text in queries.items())
    )
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "test.tsv").write_text("".join(f"{key}\t{key}\t1\n" for key in queries))
    found = read_set(str(tmp_path))
    assert {key: set(own) for key, own in ids(found).items()} == {
        "1": {"1", "2", "3"},
        "2": {"3"},
        "3": {"1", "2", "3"},
    }
    assert found.facts.own_text == 1


def test_an_archive_made_on_a_mac_is_read(beir: Path, tmp_path: Path) -> None:
    path = tmp_path / "animals.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("__MACOSX/animals/._corpus.jsonl", "metadata")
        archive.writestr("__MACOSX/animals/corpus.jsonl", "metadata")
        for file in sorted(beir.rglob("*")):
            archive.write(file, Path("animals") / file.relative_to(beir))
    check_animals(read_set(str(path)))


def test_an_archive_that_was_cut_is_said_to_be(tmp_path: Path) -> None:
    path = tmp_path / "animals.zip"
    path.write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(InputError, match=r"animals\.zip' cannot be unpacked: File is not a zip file"):
        read_set(str(path))
