"""`rerank rank --combine`: the first stage's scores, from files of every kind."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from helpers.plugin_factory import install
from rerank_core import Combine, Reranker
from rerank_core.cli import app
from rerank_core.plugins import registry
from rerank_core.testing import FakeTextScorer, fake_spec

TEXTS = ["panda", "a panda", "tea"]
FIRST = [1.0, 2.5, 4.0]
ROWS = [{"id": f"d{n}", "text": text, "score": score} for n, (text, score) in enumerate(zip(TEXTS, FIRST, strict=True))]
JSONL = "\n".join(map(json.dumps, ROWS))


@pytest.fixture(autouse=True)
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A model without weights, named acme-small."""
    install(tmp_path / "site", "acme")
    monkeypatch.syspath_prepend(tmp_path / "site")
    registry.default.cache_clear()
    yield
    registry.default.cache_clear()
    sys.modules.pop("rerank_acme", None)


def rerank(*arguments: str, stdin: str = JSONL) -> Result:
    """``rerank rank panda`` with the fake model; anything but an exit is a failure of the test."""
    command = ["rank", "panda", "-m", "acme-small", *arguments]
    result = CliRunner().invoke(app, command, input=stdin, prog_name="rerank", catch_exceptions=False)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def hits(*arguments: str, stdin: str = JSONL) -> Any:
    """The hits of ``--json``, in the order of the documents."""
    result = rerank("--json", *arguments, stdin=stdin)
    assert (result.exit_code, result.stderr) == (0, "")
    data = json.loads(result.stdout)
    assert data["score_space"] == "combined"
    return sorted(data["hits"], key=lambda hit: hit["index"])


@pytest.mark.parametrize(
    ("arguments", "combine"),
    [
        (["--combine", "rrf"], Combine.rrf()),
        (["--combine", "rrf", "--rrf-k", "1", "--lower-is-better"], Combine.rrf(1, lower_is_better=True)),
        (["--combine", "weighted"], Combine.weighted()),
        (
            ["--combine", "weighted", "--first-stage-share", "0.6", "--normalize", "minmax"],
            Combine.weighted(0.6, "minmax"),
        ),
    ],
)
def test_options_are_those_of_python(arguments: list[str], combine: Combine) -> None:
    """Each option is a field of `Combine`; the JSON has every score of a hit."""
    expected = Reranker.from_scorer(FakeTextScorer(), fake_spec("acme-small")).rerank("panda", ROWS, combine=combine)

    shown = hits(*arguments)
    assert [hit["score"] for hit in shown] == expected.scores()
    assert [hit["scores"] for hit in shown] == [dict(hit.scores) for hit in sorted(expected, key=lambda hit: hit.index)]
    assert [hit["metadata"] for hit in shown] == [{"score": score} for score in FIRST]


def test_cells_of_a_table_are_numbers(tmp_path: Path) -> None:
    """CSV holds texts, which are read as numbers; the metadata stays as it was; an empty cell is a missing score."""
    table = tmp_path / "hits.csv"
    table.write_text("id,text,bm25\nd0,panda, 1.0 \nd1,a panda,2.5\nd2,tea,4e0\n", encoding="utf-8")
    arguments = [str(table), "--combine", "rrf", "--first-stage-field", "bm25"]

    assert [hit["scores"] for hit in hits(*arguments)] == [hit["scores"] for hit in hits("--combine", "rrf")]
    assert [hit["metadata"]["bm25"] for hit in hits(*arguments)] == [" 1.0 ", "2.5", "4e0"]
    table.write_text("id,text,bm25\nd0,panda,1.0\nd1,a panda,\n", encoding="utf-8")
    refused = rerank(*arguments)
    assert refused.exit_code == 1
    assert "document 1 (id 'd1') has no 'bm25'" in refused.stderr
    assert "--missing-score worst" in refused.stderr
    assert "first_stage" not in hits(*arguments, "--missing-score", "worst")[1]["scores"]


@pytest.mark.parametrize("value", ["high", "nan", "-inf", "1_0", True, [1], {"bm25": 1}, 1e400])
def test_what_is_no_number_is_named(value: object) -> None:
    """The error says which document, and shows the value."""
    row = json.dumps({"text": "panda", "id": 7, "score": value}).replace("Infinity", "1e400")
    refused = rerank("--combine", "rrf", stdin=f"{JSONL}\n{row}")

    assert refused.exit_code == 1
    if value != 1e400:  # refused where JSON is read
        assert f"document 3 (id 7) has {value!r} as 'score'" in " ".join(refused.stderr.split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--first-stage-share", "0.2"], "without --combine"),
        (["--first-stage-field", "bm25"], "without --combine"),
        (["--lower-is-better"], "without --combine"),
        (["--missing-score", "worst"], "without --combine"),
        (["--combine", "rrf", "--first-stage-share", "0.2"], "with --combine rrf"),
        (["--combine", "rrf", "--normalize", "minmax"], "with --combine rrf"),
        (["--combine", "weighted", "--rrf-k", "3"], "with --combine weighted"),
        (["--combine", "mean"], "'rrf', 'weighted'"),
        (["--combine", "weighted", "--first-stage-share", "2"], "Invalid value for '--first-stage-share'"),
        (["--combine", "weighted", "--first-stage-share", "nan"], "Invalid value for '--first-stage-share'"),
        (["--combine", "weighted", "--first-stage-field", ""], "field is ''"),
        (["--combine", "rrf", "--activation", "sigmoid"], "activation='sigmoid', given to load, has no effect"),
    ],
)
def test_options_without_effect_are_refused(arguments: list[str], said: str) -> None:
    """An option that would change nothing, or cannot be, is an error that says why; stdout stays empty."""
    refused = rerank(*arguments)

    assert refused.exit_code in (1, 2)
    assert refused.stdout == ""
    assert said in " ".join(refused.stderr.split())


def test_tables_show_combined_scores() -> None:
    """The table and its summary speak of combined scores; `--explain` shows each of them."""
    table = rerank("--combine", "weighted", "--first-stage-share", "1", "--normalize", "minmax", "-k", "1")
    assert table.stdout.splitlines()[1].split() == ["1", "1.0000", "d2", "tea"]
    assert "1 of 3 documents · combined scores" in table.stderr
    explained = rerank("--combine", "weighted", "--first-stage-share", "1", "--normalize", "minmax", "--explain")
    assert "combined 1.0000, acme-small 0.0000, first_stage 4.0000" in explained.stdout
    assert "logit scores" in rerank().stderr
