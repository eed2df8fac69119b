"""What would end a run after hours, or let it learn nothing, is found by `--dry-run`, typed, and nothing is written."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from helpers.runs import MakeRows, Prepared
from typer.testing import CliRunner, Result

from rerank_core import InputError
from rerank_core.cli import app
from rerank_core.testing import tiny_causal_lm, tiny_cross_encoder
from rerank_trainers.loop.preflight import check_room, checkpoint_bytes
from rerank_trainers.loop.prepare import Run

ROWS = [
    {"query": f"question {at}", "pos": [f"answer {at}"], "neg": ["nothing", "其他"], "id": f"row-{at}"}
    for at in range(4)
]
LONG = {"query": "panda " * 600, "pos": ["a bear"], "neg": ["a car", "Paris"], "id": "long"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tiny models, data that fits and data with a query that does not, and folders that are in the way."""
    place = tmp_path_factory.mktemp("preflight")
    tiny_cross_encoder(place / "model", "bert")
    tiny_causal_lm(place / "llm")
    for name, rows in (("train", ROWS[:2]), ("dev", ROWS[2:]), ("long", [*ROWS[:2], LONG]), ("longdev", [LONG])):
        (place / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (place / "file").write_text("no folder")
    (place / "theirs" / "final").mkdir(parents=True)
    (place / "theirs" / "final" / "thesis.tex").write_text("all of it")
    return place


def dry(place: Path, *arguments: str, plain: bool = False) -> Result:
    """`rerank train reranker --dry-run`, in this process."""
    before = Path.cwd()
    os.chdir(place)
    common = () if plain else ("--train", "train.jsonl", "--model", "model", "--out", "run")
    try:
        told = (*common, "--set", "train.warmup=0", "--set", "train.device=cpu", *arguments, "--dry-run")
        return CliRunner().invoke(app, ["train", "reranker", *told])
    finally:
        os.chdir(before)


def contents(place: Path) -> set[str]:
    return {str(path.relative_to(place)) for path in place.rglob("*")}


SETTINGS: list[tuple[str, str]] = [
    ("train.learning_rate=-1e-5", "train.learning_rate is -1e-05; it must be at least 0"),
    ("train.weight_decay=-1", "train.weight_decay is -1.0"),
    ("train.clip=-1", "train.clip is -1.0"),
    ("train.warmup=5", "train.warmup is 5.0; it must be at least 0 and below 1: a fraction of the steps"),
    ("train.warmup=-0.1", "train.warmup is -0.1"),
    ("train.warmup=0.1", "nothing would be learnt. Set train.warmup=0"),
    ("train.max_steps=0", "train.max_steps is 0; it must be at least 1, or -1"),
    ("train.epochs=0", "train.epochs is 0.0"),
    ("train.batch_size=0", "train.batch_size is 0"),
    ("train.keep_checkpoints=0", "train.keep_checkpoints is 0"),
    ("train.eval_steps=0", "train.eval_steps is 0"),
    ("train.seed=-1", "train.seed is -1"),
    ("train.seed=99999999999", "numpy takes seeds below 2**32"),
    ("train.schedule=cosinus", "cosinus"),
    ("train.schedule=warmup_stable_decay", "train.schedule is 'warmup_stable_decay'"),
    ("train.precision=fp16", "train.precision is 'fp16', which needs a GPU"),
    ("train.device=gpu", "train.device is 'gpu'"),
    ("train.patience=1", "a dev set, and data.eval is empty"),
    ("train.arguments={report_to: wandb}", "train.arguments.report_to is ['wandb']"),
    ("train.arguments={report_to: nowhere}", "train.arguments.report_to is ['nowhere']"),
    ("train.arguments={optim: adamw_torched}", "adamw_torched"),
    ("train.arguments={adam_beta1: 7}", "beta"),
    ("train.arguments={max_step: 7}", "no such argument"),
    ("train.arguments={adam_epsilon: none}", "train.arguments.optim 'adamw_torch_fused'"),
    ("model.dropout=1.5", "model.dropout is 1.5"),
    ("model.max_query_length=0", "model.max_query_length is 0"),
    ("model.max_length=100000", "model.max_length is 100000, and the model has"),
    ("model.lora={r: 0}", "model.lora.r is 0"),
    ("model.lora={targets: [nothing]}", "model.lora.targets"),
    ("publish.calibrate=true", "publish.calibrate fits the score to the labels of a dev set; set data.eval"),
    ("train.out=file", "'file' is no folder"),
    ("train.out=file/below", "is no folder"),
    ("train.out=theirs", "is no published folder"),
    ("data.train=long.jsonl", "data.train: the row long cannot be laid out: query"),
    ("data.eval=longdev.jsonl", "data.eval: the row long cannot be laid out: query"),
]


@pytest.mark.parametrize(("setting", "message"), SETTINGS, ids=[setting for setting, _ in SETTINGS])
def test_a_dry_run_finds_what_cannot_be(place: Path, setting: str, message: str) -> None:
    """One line names the setting, exit code 1, nothing is written."""
    before = contents(place)
    done = dry(place, "--set", "train.epochs=1", "--set", setting)

    assert done.exit_code == 1, done.output
    assert isinstance(done.exception, SystemExit), done.exception
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert contents(place) == before


def test_a_dry_run_of_what_can_be_writes_nothing(place: Path) -> None:
    """The advice of the messages works: a limit for queries, a dev set to calibrate to."""
    before = contents(place)
    told = ("--eval", "dev.jsonl", "--set", "publish.calibrate=true", "--set", "data.train=long.jsonl")
    done = dry(place, *told, "--set", "model.max_query_length=32")

    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["rows"] == 3
    assert contents(place) == before


def test_a_dry_run_of_a_resumed_run_compares(place: Path, tmp_path: Path) -> None:
    """What `--resume` would refuse, and a fresh start beside checkpoints, are found without training too."""
    run = str(tmp_path / "run")
    before = Path.cwd()
    os.chdir(place)
    try:
        told = (
            "--train",
            "train.jsonl",
            "--model",
            "model",
            "--out",
            run,
            "-s",
            "train.epochs=1",
            "-s",
            "train.warmup=0",
        )
        made = CliRunner().invoke(app, ["train", "reranker", *told, "-s", "train.device=cpu"])
    finally:
        os.chdir(before)
    assert made.exit_code == 0, made.output
    told = ("--out", run, "-s", "train.epochs=1")
    assert "continue with --resume" in dry(place, *told).stderr
    assert (
        "train.learning_rate is 1.0 and was 2e-05"
        in dry(place, *told, "-s", "train.learning_rate=1", "--resume").stderr
    )
    assert dry(place, *told, "--resume").exit_code == 0
    assert dry(place, *told, "--overwrite").exit_code == 0


def test_a_checkpoint_that_does_not_fit_the_disk_is_refused(prepared: Prepared, rows: MakeRows, tmp_path: Path) -> None:
    """The estimate is that of the files, to a tenth and what is constant; what is not free is refused with both
    numbers."""
    for told in ((), ("model.lora={r: 4}",)):
        run: Run = prepared("train.max_steps=1", "train.arguments.optim=adamw_torch", *told, rows=rows(4))
        run.train()
        written = sum(
            path.stat().st_size
            for path in Path(run.config.train.out, "checkpoints", "checkpoint-1").iterdir()
            if path.suffix == ".safetensors" or path.name == "optimizer.pt"
        )
        found = checkpoint_bytes(run.model.module, run.trainer.args)
        assert 0.9 * (written - 50_000) < found < 1.1 * written
    check_room(str(tmp_path / "new" / "run"), 1000, 3)
    with pytest.raises(InputError, match=r"GB are free; 3 checkpoints of about 1e\+09 GB need more"):
        check_room(str(tmp_path / "new" / "run"), 10**18, 3)
    with pytest.raises(InputError, match=r"and the published model of 1e\+09 GB need more"):
        check_room(str(tmp_path / "new" / "run"), 1000, 3, 10**18)
