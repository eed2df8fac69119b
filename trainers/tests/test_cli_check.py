"""`rerank train check`, as a shell runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from rerank_trainers.cli.check import check

EXAMPLES = Path(__file__).resolve().parents[2] / "tests" / "records" / "examples"

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
app.command()(check)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    path = tmp_path / "bad.jsonl"
    rows = ['{"query": "q", "pos": ["a"], "neg": ["b"]}', '{"query": "q", "pos": "a"}', '{"query": "q", "pos": ["a"]}']
    path.write_text("\n".join([*rows, *(f'{{"query": "r{row}", "pos": []}}' for row in range(5))]), encoding="utf-8")
    return path


def test_sound_data_is_exit_code_0() -> None:
    """Sources, formats and warnings are shown, and the last line says that training may start."""
    result = run(EXAMPLES / "pos_neg.jsonl", EXAMPLES / "graded.tsv")
    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["pos_neg.jsonl", "3"] in lines
    assert ["graded.tsv", "2"] in lines
    assert ["pointwise", "2"] in lines
    assert result.stdout.splitlines()[-1] == "5 rows: 0 errors in 0 of them, 2 warnings. Fit to train on."


def test_errors_are_exit_code_1(bad: Path) -> None:
    """Each kind has its count and its first places; CI stops, whatever training would do."""
    result = run(bad)
    assert result.exit_code == 1
    assert "bad.jsonl:2  pos is the string 'a'; it must be a list of strings" in result.stdout
    assert result.stdout.count("it has no documents") == 3
    assert "Training would stop" in result.stdout
    dropped = run(bad, "--on-error", "drop", "--examples", 1)
    assert dropped.exit_code == 1
    assert dropped.stdout.count("it has no documents") == 1
    assert "With on_error=drop training would go on with 2 rows." in dropped.stdout


def test_json_is_the_report(bad: Path) -> None:
    """JSON is alone on stdout, and has counts, kinds and every place."""
    result = run(bad, "--json")
    report = json.loads(result.stdout)
    assert (result.exit_code, report["ok"], report["rows"], report["errors"]) == (1, False, 8, 6)
    assert [(kind["kind"], kind["count"]) for kind in report["kinds"]] == [
        ("no-docs", 5), ("string-for-list", 1), ("single-doc", 1)
    ]  # fmt: skip
    assert [problem["line"] for problem in report["problems"]] == [2, 3, 4, 5, 6, 7, 8]


def test_options_reach_the_check(tmp_path: Path) -> None:
    """Label range, query length, evaluation data, strictness and the meaning of scores each change the outcome."""
    graded, lines = EXAMPLES / "pos_neg_scores.jsonl", EXAMPLES / "canonical.jsonl"
    assert run(lines, "--label-range", "0,3").exit_code == 0
    assert run(lines, "--label-range", "0,2").exit_code == 1
    assert run(lines, "--label-range", "rag-retrieval-2024").exit_code == 0
    assert run(graded, "--label-range", "0,1").exit_code == 0
    assert run(graded, "--label-range", "0,1", "--scores-are", "labels").exit_code == 1
    assert "long-query" in run(lines, "--max-query-chars", 20).stdout
    assert "pair-in-eval" in run(lines, "--eval", lines).stdout
    assert run(lines, "--error", "unlabeled").exit_code == 1


def test_wrong_use_names_what_is_wrong(tmp_path: Path) -> None:
    """A file that is not there, an unknown kind or scale end in an error of one line, which names it."""
    for arguments in ([tmp_path / "none.jsonl"], [EXAMPLES / "graded.tsv", "--error", "typo"]):
        result = run(*arguments)
        assert result.exit_code == 1
        assert str(arguments[-1]) in str(result.exception)


def test_checking_needs_no_torch() -> None:
    """The command imports neither torch nor transformers: it answers at once, on a machine without a GPU."""
    code = (
        "import sys; import rerank_trainers.cli.check, rerank_trainers.store; "
        "sys.exit(bool({'torch', 'transformers', 'pyarrow'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
