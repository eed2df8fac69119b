"""`rerank train reranker` and `rerank train llm`: what a user types, what is written, what is said and where."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import rerank_core
from rerank_core.cli import app
from rerank_core.testing import tiny_cross_encoder
from rerank_trainers.config.parse import read_config

ROWS = [
    {
        "query": f"question {at} about {word}",
        "pos": [f"{word} is what {at} asks"],
        "neg": ["nothing of the kind", "其他"],
    }
    for at, word in enumerate(("panda", "bamboo", "Paris", "熊猫", "bread", "cup"))
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny cross-encoder, and training and dev data beside it."""
    place = tmp_path_factory.mktemp("train")
    tiny_cross_encoder(place / "model", "xlm-roberta")
    for name, rows in (("train", ROWS[:4]), ("dev", ROWS[4:])):
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (place / f"{name}.jsonl").write_text(text, encoding="utf-8")
    return place


def rerank(*arguments: str, cwd: Path) -> Result:
    """The command, in this process: torch is imported once for all tests."""
    before = Path.cwd()
    os.chdir(cwd)
    try:
        return CliRunner().invoke(app, list(arguments))
    finally:
        os.chdir(before)


def reranker(folder: Path, *arguments: str) -> Result:
    """`rerank train reranker` on the tiny data."""
    common = ("--train", "train.jsonl", "--eval", "dev.jsonl", "--model", "model", "--set", "train.device=cpu")
    return rerank("train", "reranker", *common, *arguments, cwd=folder)


def test_a_run_ends_in_a_folder_that_ranks(folder: Path) -> None:
    """stdout is one JSON object, progress is on stderr, the settings are written down, and the published folder gives
    the dev figures again."""
    done = reranker(folder, "--out", "first", "--set", "train.epochs=2", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["rows"] == 4
    assert told["steps"] == 2
    assert set(told["before"]) == set(told["after"]) == {"nDCG@10", "AP", "RR@10"}
    assert "step 2  dev" in done.stderr
    assert read_config(folder / "first" / "config.json")["train"]["epochs"] == 2.0
    model = rerank_core.load(folder / "first" / "final", device="cpu")
    assert len(model.rerank("what is a panda?", ["panda", "cup"])) == 2
    assert model.spec.name == "first"

    again = reranker(folder, "--out", "first", "--json")
    assert again.exit_code == 1
    assert "--resume" in again.stderr


def test_flags_win_over_the_file_and_set_over_flags(folder: Path) -> None:
    """`--dry-run` shows the resolved configuration without training: file, then flags, then --set."""
    (folder / "run.yaml").write_text(
        "train: {epochs: 5, out: from-file, learning_rate: 3e-5}\nobjective: ranknet\n", encoding="utf-8"
    )
    done = reranker(folder, "run.yaml", "--out", "from-flag", "-s", "train.epochs=7", "--dry-run")
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["train"]["out"] == "from-flag"
    assert told["train"]["epochs"] == 7
    assert told["train"]["learning_rate"] == 3e-5
    assert told["objective"] == [{"name": "ranknet", "weight": 1.0, "options": {}, "temperature": None}]
    assert told["rows"] == 4
    assert not (folder / "from-flag").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-s", "train.epoch=3"), "'train.epoch' is not a setting. Did you mean 'epochs'?"),
        (("-s", "train.epochs"), "--set takes KEY=VALUE"),
        (("--objective", "softmax"), "softmax_ce"),
        (("--objective", "kl"), "needs scores"),
        (("--eval", "train.jsonl"), "pair-in-eval"),
        (("-s", "train.arguments={learning_rate: 1}"), "learning_rate"),
        (("missing.yaml",), "missing.yaml"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(folder: Path, arguments: tuple[str, ...], message: str) -> None:
    """Exit code 1, the reason on stderr, nothing on stdout and nothing written."""
    done = reranker(folder, "--out", "never", *arguments)
    assert done.exit_code == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert not (folder / "never" / "checkpoints").exists()


def test_wrong_settings_are_found_before_torch(folder: Path) -> None:
    """Whoever mistypes a key does not wait for torch to be imported."""
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom rerank_core.cli import app\n"
        "done = CliRunner().invoke(app, ['train', 'reranker', '-s', 'trian.epochs=1'])\n"
        "print(done.exit_code, sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder)
    assert done.stdout.strip() == "1 []"


def test_overwrite_starts_anew_and_resume_goes_on(folder: Path) -> None:
    """After --overwrite the run is as the first one was; --resume of a finished run trains nothing more."""
    results: list[dict[str, Any]] = []
    for more in ((), ("--overwrite",), ("--resume",)):
        done = reranker(folder, "--out", "again", "-s", "train.epochs=1", "-s", "train.warmup=0", "--json", *more)
        assert done.exit_code == 0, done.stderr
        results.append(json.loads(done.stdout))
    assert results[0]["after"] == results[1]["after"] == results[2]["after"]
    assert results[2]["steps"] == results[0]["steps"]


def test_an_llm_is_told_what_is_missing(folder: Path) -> None:
    """Without a template to follow the message lists the models that have one."""
    done = rerank("train", "llm", "--train", "train.jsonl", "--model", "model", "--out", "llm", cwd=folder)
    assert done.exit_code == 1
    assert "model.like" in done.stderr
