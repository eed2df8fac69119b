"""`rerank train check`, as a shell runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from helpers.examples import EXAMPLES
from rerank_trainers.cli.check import check
from rerank_trainers.kinds import kind_of

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
    result = run(EXAMPLES / "pos_neg.jsonl", EXAMPLES / "graded.tsv", "--label-range", "0,3")
    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["pos_neg.jsonl", "3"] in lines
    assert ["graded.tsv", "2"] in lines
    assert ["pointwise", "2"] in lines
    assert ["rows", "with", "instruction", "2"] in lines
    outcome = "Training would accept these rows."
    assert result.stdout.splitlines()[-1] == f"5 rows: 0 errors in 0 of them, 2 warnings. {outcome}"


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
    assert "With on_error=drop training would continue with 2 rows." in dropped.stdout


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
    graded, lines, unlabeled = EXAMPLES / "pos_neg_scores.jsonl", tmp_path / "lines.jsonl", EXAMPLES / "canonical.jsonl"
    lines.write_text("".join(unlabeled.read_text(encoding="utf-8").splitlines(keepends=True)[:2]), encoding="utf-8")
    assert run(lines, "--label-range", "0,3").exit_code == 0
    assert run(lines, "--label-range", "0,2").exit_code == 1
    assert run(lines, "--label-range", "rag-retrieval-2024").exit_code == 0
    assert "outside 0 to 1" not in run(graded, "--label-range", "0,1").stdout
    assert "outside 0 to 1" in run(graded, "--label-range", "0,1", "--scores-are", "labels").stdout
    assert "long-query" in run(lines, "--max-query-chars", 20).stdout
    assert "pair-in-eval" in run(lines, "--eval", lines).stdout
    assert "unlabeled" in run(unlabeled, "--error", "unlabeled", "--label-range", "0,3").stdout


def test_what_holds_of_all_rows_is_asked_too(tmp_path: Path) -> None:
    """Rows that are sound one by one may say nothing together: exit code 1, in JSON too; an objective is asked for what
    it needs, and the dev set for what is measured on it."""
    positives, scored = tmp_path / "positives.jsonl", tmp_path / "scored.jsonl"
    good, unjudged = tmp_path / "good.jsonl", tmp_path / "unjudged.jsonl"
    positives.write_text('{"query": "a", "pos": ["x"]}\n{"query": "b", "pos": ["y", "z"]}\n')
    scored.write_text('{"query": "a", "docs": ["x", "y"], "scores": [3, 1]}\n')
    good.write_text('{"query": "c", "pos": ["x"], "neg": ["y"]}\n')
    unjudged.write_text('{"query": "d", "docs": ["x", "y"]}\n')
    told = run(positives)
    assert (told.exit_code, told.stdout.count("rerank train mine")) == (1, 1)
    assert json.loads(run(positives, "--json").stdout)["ok"] is False
    assert run(positives, good).exit_code == run(good, "--objective", "softmax_ce").exit_code == 0
    assert run(scored, "--objective", "kl").exit_code == 0
    for files in ([scored], [scored, good], [unjudged, good]):
        told, named = run(*files), run(*files, "--objective", "bce")
        assert (told.exit_code, told.stdout) == (named.exit_code, named.stdout) == (1, told.stdout)
        assert "Training would stop: the objective 'bce' needs labels, and the row" in told.stdout
    assert run(unjudged).exit_code == 1
    assert "a dev set needs labels" in run(good, "--eval", unjudged).stdout
    assert "none of 2 dev rows" in run(good, "--eval", positives).stdout


def test_the_last_line_tells_of_errors_of_the_dev_set_and_of_nothing_left(bad: Path, tmp_path: Path) -> None:
    """Training rows that are sound are not called fit where training would stop at the dev set, or none is left."""
    good = tmp_path / "good.jsonl"
    good.write_text('{"query": "c", "pos": ["x"], "neg": ["y"]}\n')
    assert "Training would stop; --on-error drop or warn would" in run(good, "--eval", bad).stdout.splitlines()[-1]
    good.write_text('{"query": "c", "pos": "x"}\n')
    assert "with on_error=drop no row is left." in run(good, "--on-error", "drop").stdout.splitlines()[-1]


def test_settings_are_checked_as_training_checks_them(tmp_path: Path) -> None:
    """Numbers that no run can have are an error of the check, whatever part of a configuration they are in."""
    (tmp_path / "good.jsonl").write_text('{"query": "c", "pos": ["x"], "neg": ["y"]}\n')
    for setting in ("data.group_size=-1", "train.learning_rate=-1", "publish.calibrate=true"):
        assert setting.partition("=")[0] in str(run(tmp_path / "good.jsonl", "--set", setting).exception)


def test_the_check_asks_what_the_default_objective_asks() -> None:
    """What stands in for the default objective, so that torch need not be imported, says what that one says."""
    from rerank_trainers.config.schema import Config
    from rerank_trainers.loop.prepare import objective_from
    from rerank_trainers.objectives.required_data import DefaultObjective

    objective = objective_from(Config(), kind_of(Config().model))

    assert (DefaultObjective().name, DefaultObjective().needs) == (objective.name, objective.needs)
    assert DefaultObjective().needs.score_differences == objective.needs.score_differences


def test_a_configuration_is_checked_as_it_is_trained(tmp_path: Path) -> None:
    """--config and --set bring the files, the labels and the objective of a run."""
    (tmp_path / "train.jsonl").write_text('{"query": "a", "docs": ["x", "y"], "labels": [5, -5]}\n')
    config = tmp_path / "run.yaml"
    config.write_text(f"data: {{train: {tmp_path / 'train.jsonl'}}}\nobjective: ranknet\n")
    assert "label 5.0 is outside 0 to 1" in run("--config", config).stdout
    assert run("--config", config, "--set", "data.label_range=[-5,5]").exit_code == 0
    assert run("--config", config, "--set", "data.label_map={5: 1, -5: 0}").exit_code == 0
    assert "needs scores" in run("--config", config, "--label-range=-5,5", "--objective", "kl").stdout
    assert "names no file" in str(run().exception)


def test_wrong_use_names_what_is_wrong() -> None:
    """A file that is not there, an unknown kind or scale end in an error of one line, which names it."""
    for arguments in (["nowhere/none.jsonl"], [EXAMPLES / "graded.tsv", "--error", "typo"]):
        result = run(*arguments)
        assert result.exit_code == 1
        assert str(arguments[-1]) in str(result.exception)


def test_checking_needs_no_torch() -> None:
    """The command imports neither torch nor transformers: it answers at once, on a machine without a GPU."""
    code = (
        "import sys; import rerank_trainers.cli.check, rerank_trainers.data.row_store; "
        "sys.exit(bool({'torch', 'transformers', 'pyarrow'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
