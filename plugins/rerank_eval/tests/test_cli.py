"""`rerank eval`: tables, JSON, exit codes, kept results, Ctrl-C."""

from __future__ import annotations

import functools
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from rerank_core.cli import app
from rerank_eval.cli.thresholds import parse_floors

COMMAND = [sys.executable, "-m", "rerank_core", "eval"]


@pytest.fixture(autouse=True)
def elsewhere(toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in a temporary folder with the models for tests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def data(tmp_path: Path) -> str:
    """Six queries of the C-MTEB form, and a number as text of each document."""
    rows = [
        {
            "query": f"what is word{number}",
            "positive": [f"word{number} is a word"],
            "negative": [f"word{other} is no such thing as it" for other in range(10, 14)],
        }
        for number in range(6)
    ]
    path = tmp_path / "dev.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return "dev.jsonl"


def evaluate(*arguments: str) -> Result:
    result = CliRunner().invoke(app, ["eval", *arguments], prog_name="rerank", catch_exceptions=False)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def test_the_table(data: str) -> None:
    """A line for each model, the floors and the ceiling, best first; results on stdout, the rest on stderr."""
    result = evaluate("-m", "toy-words", "-m", "toy-lists,name=lists", "-d", data, "--price-per-hour", "2")
    assert result.exit_code == 0
    header, *lines = result.stdout.splitlines()
    assert header.split() == (
        [
            "dev",
            "nDCG@10",
            "AP",
            "RR@10",
            "median",
            "ms",
            "p95",
            "ms",
            "tokens/s",
            "memory",
            "parameters",
            "per",
            "1,000",
        ]
    )
    names = [line.split()[0] for line in lines]
    assert sorted(names) == ["BM25", "lists", "oracle", "random", "toy-words"]
    assert names[-1] == "random"
    (words,) = (line.split() for line in lines if line.startswith("toy-words"))
    assert words[1:6] == ["1.000", "[1.000,", "1.000]", "1.000", "1.000"]
    assert "dev: 6 queries; [ ] is the interval of 95 %" in result.stderr
    assert "warning" not in result.stderr


def test_json_and_kept_results(data: str) -> None:
    """stdout is JSON alone; the second call computes nothing, and the figures are the same."""
    first = evaluate("-m", "toy-words", "-d", data, "--json", "--metric", "RR@5", "--metric", "AP", "--results", "kept")
    found = json.loads(first.stdout)
    assert (found["schema_version"], found["metrics"]) == (1, ["RR@5", "AP"])
    assert "rankings were" not in first.stderr
    second = evaluate(
        "-m", "toy-words", "-d", data, "--json", "--metric", "RR@5", "--metric", "AP", "--results", "kept"
    )
    assert "6 rankings were in kept already, and were not computed again" in second.stderr
    assert json.loads(second.stdout)["sets"][0]["rows"] == found["sets"][0]["rows"]


def test_several_sets_have_a_mean(data: str) -> None:
    result = evaluate("-m", "toy-words", "-d", data, "-d", f"again={data}", "--queries", "3")
    assert result.exit_code == 0
    assert re.search(r"^mean of 2 sets +nDCG@10$", result.stdout, re.MULTILINE)
    assert re.search(r"^toy-words +1\.000 \[1\.000, 1\.000\]$", result.stdout, re.MULTILINE)


@pytest.mark.parametrize(("floor", "code"), [("0.9", 0), ("1.1", 1)])
def test_fail_under(floor: str, code: int, data: str) -> None:
    """The models below are named, and a metric that is not in the table is computed for it."""
    result = evaluate("-m", "toy-words", "-d", data, "--metric", "AP", "--fail-under", f"nDCG@5={floor}")
    assert result.exit_code == code
    assert ("toy-words is below nDCG@5 1.1 on dev: 1.0000" in result.stderr) == bool(code)
    assert "random is below" not in result.stderr


def test_a_model_that_cannot_run_is_exit_code_1(data: str) -> None:
    """After the table of the others."""
    result = evaluate("-m", "nosuch", "-m", "toy-words,fails=word3", "-d", data, "--fail-under", "AP=0.5")
    assert result.exit_code == 1
    assert re.search(r"^nosuch +failed$", result.stdout, re.MULTILINE)
    assert "warning: nosuch: no installed plugin has a model named 'nosuch'" in result.stderr
    assert "toy-words,fails=word3" not in result.stdout
    assert "failed on 1 of 6 queries of dev, which count as 0; the first: RuntimeError: no answer" in result.stderr
    assert "nosuch has no AP on dev, so it is below 0.5" in result.stderr


def test_a_slow_model_is_dropped_and_marked(data: str) -> None:
    """It is no error: exit code 0."""
    result = evaluate("-m", "toy-words,delay=0.1,name=slow", "-m", "toy-words", "-d", data, "--budget-ms", "50")
    assert result.exit_code == 0
    assert re.search(r"^slow +dropped +10\d", result.stdout, re.MULTILINE)
    assert "slow: dropped after 5 queries: 10" in result.stderr


def test_malformed_answers_are_told(data: str) -> None:
    """Of a listwise model: the order that they were repaired to is measured."""
    result = evaluate("-m", "toy-lists,malformed=true", "-m", "toy-lists,name=good", "-d", data)
    assert result.exit_code == 0
    assert "12 of 18 answers of toy-lists on dev are malformed; they were repaired" in result.stderr
    assert "answers of good" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["-d", "dev.jsonl"], 2, "Missing option '--model'"),
        (["-m", "toy-words"], 2, "name judged queries, or a suite with --suite"),
        (["-m", "toy-words", "-d", "none.jsonl"], 1, "'none.jsonl' does not exist"),
        (["-m", "toy-words", "-m", "toy-words", "-d", "dev.jsonl"], 1, "'toy-words' is given twice"),
        (["-m", "toy-words", "-d", "dev.jsonl", "--metric", "nDGC@10"], 1, "nDGC@10"),
        (["-m", "toy-words", "-d", "dev.jsonl", "--fail-under", "0.7"], 1, "must be METRIC=VALUE, such as nDCG@10=0.7"),
        (["-m", "toy-words", "-d", "dev.jsonl", "--queries", "1"], 2, "--queries"),
        (["-m", "toy-words", "-d", "dev.jsonl", "--html", "no/r.html"], 1, "must be a file in a folder that exists"),
        (["-m", "toy-words", "-d", "dev.jsonl", "--html", "."], 1, "must be a file in a folder that exists"),
    ],
)
def test_wrong_usage_is_told_before_any_model_runs(arguments: list[str], code: int, message: str, data: str) -> None:
    result = evaluate(*arguments)
    assert result.exit_code == code
    assert message in result.stderr
    assert result.stdout == ""
    assert not Path(".rerank-eval").exists()


def test_floors() -> None:
    assert parse_floors(["nDCG@10=0.7", "nDCG(dcg='exp-log2')@5=0.1"]) == {
        "nDCG@10": 0.7,
        "nDCG(dcg='exp-log2')@5": 0.1,
    }


def test_ctrl_c_says_how_to_go_on(data: str, tmp_path: Path) -> None:
    """And keeps what is there, so that the same command computes the rest."""
    log = tmp_path / "log"
    command = [*COMMAND, "-m", f"toy-words,delay=0.2,log={log}", "-d", data]
    # A job in the background of a shell inherits SIGINT ignored, and Python then leaves it so.
    heed = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    started = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "preexec_fn": heed}
    with subprocess.Popen(command, **started) as process:
        end = time.monotonic() + 60
        while time.monotonic() < end and (not log.exists() or log.read_text().count("\n") < 3):
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stdout == ""
    assert "every ranking so far is kept in .rerank-eval; repeat the command to go on from there" in stderr
    assert "Traceback" not in stderr
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert re.search(r"[23] rankings were in \.rerank-eval already", again.stderr)


def test_a_terminal_shows_how_far_it_is(data: str) -> None:
    """The bar on stderr has the model, the set, the count, and the time that is left."""
    import pty

    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    command = [*COMMAND, "-m", "toy-words,delay=0.15,name=slow", "-m", "nosuch", "-d", data]
    shown = b""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, text=True, env=environment) as process:
        os.close(theirs)
        try:
            while block := os.read(ours, 4096):
                shown += block
        except OSError:  # Linux says so when the other side of a terminal is closed
            pass
        assert process.wait() == 1
    os.close(ours)
    text = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", shown.decode())
    assert "loading slow" in text
    assert re.search(r"slow · dev .*[1-6]/12 queries, left: [\d-]:", text)
    assert text.count("no installed plugin has a model named 'nosuch'") == 1


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"query": "word1", "positive": ["a word1"], "negative": ["a"]}], "the set 'few' has 1 queries"),
        (
            [{"query": f"word{at}", "docs": ["a", "b"], "labels": [0.4, 0.1]} for at in range(3)],
            "AP can be measured on 0 of the 3 queries of the set 'few'",
        ),
    ],
)
def test_a_set_that_cannot_be_measured_is_refused_before_models_run(
    rows: list[dict[str, object]], message: str, tmp_path: Path
) -> None:
    (tmp_path / "few.jsonl").write_text("\n".join(map(json.dumps, rows)))
    result = evaluate("-m", "toy-words,log=log", "-d", "few.jsonl")
    assert result.exit_code == 1
    assert message in result.stderr
    assert not Path("log").exists()


def test_queries_that_a_metric_leaves_out_are_said(tmp_path: Path) -> None:
    rows = [{"query": f"word{at}", "docs": ["a", "b"], "labels": [0.4 + at, 0.1]} for at in range(3)]
    (tmp_path / "few.jsonl").write_text("\n".join(map(json.dumps, rows)))
    result = evaluate("-m", "toy-words", "-d", "few.jsonl", "--metric", "nDCG@10", "--metric", "AP")
    assert result.exit_code == 0
    assert "few: AP leaves out 1 queries, on which no order is better than another" in result.stderr
    assert "nDCG@10 leaves out" not in result.stderr


def test_a_narrow_terminal_shows_every_figure(data: str) -> None:
    """Cells take several lines; nothing is cut."""
    import pty

    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    command = [*COMMAND, "-m", "toy-words,name=longest-name", "-d", data, "--threshold", "recall=0.9"]
    shown = b""
    with subprocess.Popen(command, stdout=theirs, stderr=subprocess.PIPE, env=environment) as process:
        os.close(theirs)
        try:
            while block := os.read(ours, 4096):
                shown += block
        except OSError:
            pass
        process.communicate()
        assert process.returncode == 0
    os.close(ours)
    text = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", shown.decode())
    # An interval of each of the four rows, and two of the cut.
    assert len(re.findall(r"\[\d\.\d{3},", text)) == len(re.findall(r"\d\.\d{3}\]", text)) == 6
    assert "longest-name" in "".join(line[:11].strip() for line in text.splitlines())


def test_candidates_of_one_relevance_are_said_to_tell_nothing(tmp_path: Path) -> None:
    """BM25 finds the relevant document of each query alone."""
    rows = [{"query": f"word{at}", "positive": [f"a word{at}"]} for at in range(3)]
    (tmp_path / "few.jsonl").write_text("\n".join(map(json.dumps, rows)))
    result = evaluate("-m", "toy-words", "-d", "few.jsonl,candidates=bm25")
    assert result.exit_code == 0
    assert "few: every order of the candidates has the same nDCG@10" in result.stderr
