"""`rerank train publish`, as a shell runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

import rerank_core
from rerank_core import InputError
from rerank_core.records.training_row import TrainingRow
from rerank_trainers.cli.publish import publish
from rerank_trainers.data.row_writer import row_to_json
from rerank_trainers.errors import PublishError
from rerank_trainers.loop.prepare import Run
from rerank_trainers.publish.hub import push

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
app.command()(publish)


def called(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("place")


@pytest.fixture
def run(place: Path, prepared: Callable[..., Run], rows: Callable[..., list[TrainingRow]]) -> Path:
    """A short run whose dev set is a file; made once."""
    if not (place / "run").exists():
        dev = place / "dev.jsonl"
        dev.write_text("".join(json.dumps(row_to_json(row)) + "\n" for row in rows(9)), encoding="utf-8")
        prepared(f"train.out={place / 'run'}", f"data.eval=[{dev}]", "objective=bce", rows=rows(9), dev=rows(9)).train()
    return place / "run"


def test_a_run_becomes_a_folder_that_serves(run: Path, tmp_path: Path) -> None:
    """Options of the shell win over the run's, dev labels are calibrated to, and JSON says what was done."""
    result = called(run, tmp_path / "out", "--calibrate", "--activation", "sigmoid", "--dtype", "float16", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["schema_version"] == 1
    assert told["directory"] == str(tmp_path / "out")
    assert told["deviation"] <= told["tolerance"]
    assert told["rounding"] > 0
    assert told["scaling"]["scale"] > 0
    assert told["pushed"] is None
    with rerank_core.load(tmp_path / "out", device="cpu") as reranker:
        assert reranker.rerank("what is a panda?", ["a bear", "Paris"]).score_space == "probability"
    card = (tmp_path / "out" / "README.md").read_text("utf-8")
    assert "Dev set of 9 queries" in card
    assert "The published weights hold" in card


def test_the_weights_may_be_averaged_with_the_start(run: Path, encoder: Path, tmp_path: Path) -> None:
    """All of the start is the start itself; nothing of it is the trained model."""
    pair = [("what is a panda?", "a bear")]
    scored = {}
    for share in (0, 1):
        result = called(run, tmp_path / str(share), "--average-with-start", share, "--no-eval", "--json")
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["size"] > 0
        scored[share] = rerank_core.load(tmp_path / str(share), device="cpu").score(pair)
    assert scored[1] == pytest.approx(rerank_core.load(encoder, device="cpu").score(pair), abs=1e-5)
    assert scored[0] != pytest.approx(scored[1], abs=1e-4)


def test_what_is_wrong_is_found_before_a_model_is_loaded(run: Path, tmp_path: Path) -> None:
    """No run, no such checkpoint, a target that is there, a number that is none."""
    for arguments, reason in (
        ((tmp_path / "nowhere", tmp_path / "out"), "has no checkpoint"),
        ((run, tmp_path / "out", "--checkpoint", 999), "has no checkpoint 999"),
        ((run, run, "--no-eval"), "exists already"),
        (("x" * 5000, tmp_path / "out"), "which no file can be called"),
        ((run, tmp_path / ("x" * 5000), "--no-eval"), "which no file can be called"),
    ):
        result = called(*arguments)
        assert isinstance(result.exception, InputError), result.output
        assert reason in str(result.exception)
    assert called(run, tmp_path / "out", "--dtype", "int8").exit_code == 2
    assert not (tmp_path / "out").exists()


def test_a_push_that_fails_leaves_the_folder(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the hub the error says that the folder is published here, and it is."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    result = called(run, tmp_path / "out", "--no-eval", "--push", "acme/panda")
    assert isinstance(result.exception, PublishError)
    assert "is published here, but not pushed to 'acme/panda'" in str(result.exception)
    assert (tmp_path / "out" / "reranker.json").exists()
    with pytest.raises(PublishError, match="not pushed to 'not a name'"):
        push(tmp_path / "out", "not a name")


def test_help_needs_no_torch() -> None:
    """The command and its help are there before torch is imported."""
    code = (
        "import sys, typer; from rerank_trainers.cli.publish import publish\n"
        "app = typer.Typer(rich_markup_mode=None); app.command()(publish)\n"
        "try: app(['--help'])\n"
        "except SystemExit: assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--calibrate" in done.stdout
