"""The value of ``--data``."""

from __future__ import annotations

from pathlib import Path

import pytest

from rerank_core import InputError
from rerank_eval.sets.source import Source, parse_source


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "beir" / "scifact").mkdir(parents=True)
    for name in ("dev.jsonl.gz", "a=b.jsonl", "a,b.jsonl", "run.trec"):
        (tmp_path / name).write_text("")
    return tmp_path


@pytest.mark.parametrize(
    ("spec", "name", "path", "given"),
    [
        ("dev.jsonl.gz", "dev", "dev.jsonl.gz", {}),
        ("t2=dev.jsonl.gz", "t2", "dev.jsonl.gz", {}),
        ("t2=dev.jsonl.gz,scores=gains", "t2", "dev.jsonl.gz", {"scores": "gains"}),
        ("beir/scifact/,split=dev", "scifact", "beir/scifact/", {"split": "dev"}),
        ("s=beir/scifact,run=run.trec", "s", "beir/scifact", {"run": "run.trec"}),
        (
            "run=run.trec,queries=q.tsv,docs=c.tsv",
            "run",
            None,
            {"run": "run.trec", "queries": "q.tsv", "docs": "c.tsv"},
        ),
        ("dl19=queries=q.tsv,docs=c.tsv", "dl19", None, {"queries": "q.tsv", "docs": "c.tsv"}),
        # Whatever exists as it is written is a path.
        ("a=b.jsonl", "a=b", "a=b.jsonl", {}),
        ("a,b.jsonl", "a,b", "a,b.jsonl", {}),
        ("x=a=b.jsonl", "x", "a=b.jsonl", {}),
        ("dev.*", None, "dev.*", {}),
    ],
)
def test_what_a_value_names(spec: str, name: str | None, path: str | None, given: dict[str, str], folder: Path) -> None:
    assert parse_source(spec) == Source(name or folder.name, path, given)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("  ", "data is blank"),
        ("=dev.jsonl.gz", "no name before '='"),
        ("no.jsonl", "'no.jsonl' does not exist; correct the path"),
        ("dl19=qrel=x.txt,run=run.trec", r"'qrel=x.txt' does not exist \(did you mean qrels=\?\)"),
        ("beir/scifact,splits=dev", r"'splits=dev' is no KEY=VALUE \(did you mean split=\?\)"),
        ("beir/scifact,dev", "'dev' is no KEY=VALUE; the keys are queries, docs"),
        ("beir/scifact,split=dev,split=test", "split= twice"),
        ("dev.jsonl.gz,scores=labels", "scores='labels' must be first-stage or gains"),
        ("beir/scifact,run=", "run='' must be a path"),
        ("run=run.trec,qrels=q.txt", "names no path; name one, or both queries= and docs="),
    ],
)
def test_what_is_wrong_with_a_value_is_said(spec: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_source(spec)
