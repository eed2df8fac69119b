"""The settings of dev sets, and the files of each kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import rerank_core
from rerank_core import InputError
from rerank_trainers.checks.checked_data import open_and_check
from rerank_trainers.config.limits import check_settings
from rerank_trainers.config.parse import parse_config, read_config, set_values, write_config
from rerank_trainers.config.schema import EvalSet
from rerank_trainers.evaluation.dev_sets import DevSets

TEXTS = [f"The {animal} eats {food}." for animal in ("panda", "bear", "otter") for food in ("bamboo", "fish", "eggs")]

TOLD = {
    "data": {
        "train": "train.jsonl",
        "eval": {
            "wikiqa": "wikiqa.jsonl",
            "both": ["a.jsonl", "b.jsonl"],
            "scifact": {"queries": "q.jsonl", "corpus": "c.jsonl"},
            "sts": {"pairs": "sts.tsv"},
        },
    }
}


def test_named_sets_in_a_configuration(tmp_path: Path) -> None:
    """A file, several, a corpus or pairs; what is written is read; --set reaches a single set."""
    config = parse_config(TOLD)
    assert config.data.eval_sets() == {
        "wikiqa": EvalSet(("wikiqa.jsonl",)),
        "both": EvalSet(("a.jsonl", "b.jsonl")),
        "scifact": EvalSet(queries=("q.jsonl",), corpus=("c.jsonl",)),
        "sts": EvalSet(pairs=("sts.tsv",)),
    }
    check_settings(config, evaluates=True)
    write_config(config, tmp_path / "config.json")
    assert parse_config(read_config(tmp_path / "config.json")) == config
    changed = parse_config(set_values(TOLD, ["data.eval.sts=other.tsv", "data.eval.more={pairs: x.tsv}"]))
    assert changed.data.eval_sets()["sts"] == EvalSet(("other.tsv",))
    assert changed.data.eval_sets()["more"] == EvalSet(pairs=("x.tsv",))
    assert parse_config({"data": {"eval": "dev.jsonl"}}).data.eval_sets() == {"": EvalSet(("dev.jsonl",))}
    assert parse_config({}).data.eval_sets() == {}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"queries": "q.jsonl", "corpus": "c.jsonl"}, "the key 'queries', which is no name of a dev set"),
        (
            {"x": {"queries": "q.jsonl"}},
            r"data.eval.x has queries; a dev set is FILE, \{queries: FILE, corpus: FILE\} or",
        ),
        ({"x": {"pairs": "p", "files": "f"}}, "data.eval.x has files and pairs"),
        ({"x": []}, "data.eval.x has no files"),
        ({"a/b": "f"}, "'a/b' is no name of a dev set"),
        ({"x": {"querys": "q"}}, "Did you mean 'queries'"),
        ({"x": 3}, "data.eval.x is 3; it must be a mapping"),
    ],
)
def test_dev_sets_of_no_kind(given: Any, message: str) -> None:
    """The set is named."""
    with pytest.raises(InputError, match=message):
        check_settings(parse_config({"data": {"eval": given}}), evaluates=True)


def test_calibration_needs_ranked_documents() -> None:
    """Pairs and a corpus give no labelled scores to fit to."""
    told = {"data": {"eval": {"sts": {"pairs": "p"}}}, "publish": {"calibrate": True}}
    with pytest.raises(InputError, match=r"data\.eval has no set of these"):
        check_settings(parse_config(told), evaluates=True)


def write(path: Path, *records: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return str(path)


@pytest.fixture
def told(tmp_path: Path) -> dict[str, Any]:
    """A configuration with files of every kind."""
    return {
        "train": write(tmp_path / "train.jsonl", {"query": "panda", "pos": [TEXTS[0]], "neg": [TEXTS[1]]}),
        "eval": {
            "ranked": write(tmp_path / "dev.jsonl", {"query": "bear", "pos": [TEXTS[3]], "neg": [TEXTS[1]]}),
            "found": {
                "queries": write(tmp_path / "queries.jsonl", {"query": "otter", "pos": [TEXTS[7]]}),
                "corpus": write(tmp_path / "corpus.jsonl", *({"text": text} for text in TEXTS)),
            },
            "alike": {
                "pairs": write(
                    tmp_path / "sts.jsonl",
                    {"sentence1": TEXTS[0], "sentence2": TEXTS[1], "score": 4.2},
                    {"sentence1": TEXTS[0], "sentence2": TEXTS[8], "score": 1},
                )
            },
        },
    }


def test_sets_of_every_kind_are_opened_and_checked(told: dict[str, Any]) -> None:
    """Labels of pairs have any range, and neither they nor a query's single document are a problem."""
    checked = open_and_check(parse_config({"data": told}).data)
    assert [(one.name, one.kind, len(one.rows), one.report.counts) for one in checked.dev] == [
        ("ranked", "files", 1, {}),
        ("found", "corpus", 1, {}),
        ("alike", "pairs", 2, {}),
    ]
    assert checked.why_no_dev_signal() is None
    assert [name for name, _ in checked.reports()] == [
        "data.train", "data.eval.ranked", "data.eval.found", "data.eval.alike",
    ]  # fmt: skip
    rows, dev = checked.usable()
    assert dev is not None
    assert (len(rows), len(dev)) == (1, 4)
    with rerank_core.load("mini") as mini:
        assert list(DevSets.of(dev, "found/nDCG@10").evaluate(mini).values)[-1] == "alike/Spearman"
    assert dev.source_counts == {"ranked/dev.jsonl": 1, "found/queries.jsonl": 1, "alike/sts.jsonl": 2}


def test_a_leak_into_any_set_is_found(told: dict[str, Any], tmp_path: Path) -> None:
    """The file of the set is named."""
    leaked = [{"query": "otter", "pos": [TEXTS[7]], "neg": [TEXTS[1]]}, {"query": TEXTS[0], "docs": [TEXTS[8]]}]
    told["train"] = write(tmp_path / "leak.jsonl", *leaked, {"query": "clean", "docs": [TEXTS[0]]})
    report = open_and_check(parse_config({"data": told}).data).report
    assert [problem.message.rpartition(" in ")[2] for problem in report.problems_of("pair-in-eval")] == [
        "queries.jsonl:1",
        "sts.jsonl:2",
    ]


def test_why_a_set_cannot_be_measured(told: dict[str, Any], tmp_path: Path) -> None:
    """The set is named, as in training."""
    told["eval"]["found"]["corpus"] = write(tmp_path / "small.jsonl", {"text": TEXTS[0]})
    checked = open_and_check(parse_config({"data": told}).data)
    assert "data.eval.found: queries.jsonl:1: its relevant document" in str(checked.why_no_dev_signal())


def test_an_empty_corpus_is_named_by_its_set(tmp_path: Path) -> None:
    """Of several dev sets, the message says which one has no text to search."""
    row = {"query": "what is a panda?", "pos": ["a bear"], "neg": ["a city"]}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    (tmp_path / "blank.txt").write_text(" \n\n", encoding="utf-8")
    rows, blank = str(tmp_path / "rows.jsonl"), str(tmp_path / "blank.txt")
    sets = {"ranked": rows, "searched": {"queries": rows, "corpus": blank}}
    with pytest.raises(InputError, match=r"data\.eval\.searched\.corpus: .*no text to search"):
        open_and_check(parse_config({"data": {"train": rows, "eval": sets}}).data)
