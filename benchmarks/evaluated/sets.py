"""The judged sets as files that `rerank eval` reads: rows, BEIR folders, a run of TREC."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from parts.quality import judged

__all__ = ["CHINESE", "ENGLISH", "data_of"]


def _rows(name: str) -> Callable[[Path, Path], str]:
    return lambda data, folder: str(judged.write(judged.rows_of(data, name), folder / "rows.jsonl"))


def _cmedir(data: Path, folder: Path) -> str:
    return str(judged.write(judged.cmedir(data)[1], folder / "rows.jsonl"))


def _nfcorpus(data: Path, folder: Path) -> str:
    return str(data / "en_nfcorpus" / "nfcorpus.zip")


def _collection(name: str) -> Callable[[Path, Path], str]:
    def written(data: Path, folder: Path) -> str:
        documents, queries, qrels = judged.readers(data).CORPUS[name]()
        _write_texts(folder / "corpus.jsonl", documents)
        _write_texts(folder / "queries.jsonl", queries)
        lines = ["query-id\tcorpus-id\tscore"]
        lines += [f"{query}\t{doc}\t{grade}" for query, own in qrels.items() for doc, grade in own.items()]
        _write(folder / "qrels" / "test.tsv", lines)
        return str(folder)

    return written


def _dl19(data: Path, folder: Path) -> str:
    """BM25's run, in its order, and all judgements of NIST."""
    queries, documents, run = {}, {}, []
    for query, text, candidates in judged.readers(data).trecdl(19):
        queries[query] = text
        documents.update({doc: passage for doc, passage, _ in candidates})
        run += [f"{query} Q0 {doc} {rank} {-rank} bm25" for rank, (doc, _, _) in enumerate(candidates, start=1)]
    _write_texts(folder / "docs.jsonl", documents)
    _write_texts(folder / "queries.jsonl", queries)
    _write(folder / "bm25.trec", run)
    qrels = data / "en_trecdl" / "qrels.dl19-passage.txt"
    return f"queries={folder}/queries.jsonl,docs={folder}/docs.jsonl,qrels={qrels},run={folder}/bm25.trec"


ENGLISH: dict[str, Callable[[Path, Path], str]] = {
    "dl19": _dl19,
    "nfcorpus": _nfcorpus,
    "scifact": _collection("en_scifact"),
    "wikiqa": _rows("en_wikiqa/test"),
}
CHINESE: dict[str, Callable[[Path, Path], str]] = {
    "t2rank100": _rows("zh_t2rank100"),
    "cepilepsyqa": _rows("zh_cepilepsyqa/dev"),
    "cmedir": _cmedir,
    "xquad-zh": _collection("zh_xquad"),
}


def data_of(names: Iterable[str], data: Path, folder: Path) -> list[str]:
    """The ``--data`` of each set, whose files are written below ``folder`` where the judged data has another form."""
    every = {**ENGLISH, **CHINESE}
    found = []
    for name in names:
        (folder / name).mkdir(parents=True, exist_ok=True)
        found.append(f"{name}={every[name](data, folder / name)}")
    return found


def _write_texts(path: Path, texts: Mapping[str, str]) -> None:
    _write(path, [json.dumps({"_id": key, "text": text}, ensure_ascii=False) for key, text in texts.items()])


def _write(path: Path, lines: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
