"""What a run goes on with: the same data, settings and model, from the newest checkpoint that is whole."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.runs import Configured, MakeRows, Prepared, folder, trained

from rerank_core import InputError
from rerank_core.records.training_row import TrainingRow
from rerank_core.testing import tiny_cross_encoder
from rerank_trainers.config.parse import parse_config, read_config, set_values
from rerank_trainers.data.row_writer import row_to_json
from rerank_trainers.kinds import KINDS
from rerank_trainers.loop import resume_checks
from rerank_trainers.loop.run_record import data_facts
from rerank_trainers.model.checkpoint_files import unfinished
from rerank_trainers.model.checkpoints import find_checkpoint
from rerank_trainers.publish.from_run import publish_checkpoint
from rerank_trainers.train import train

# Four steps, a checkpoint at each second one. A linear schedule: the next step depends on how many there will be.
TOLD = ("train.epochs=2", "train.eval_steps=2", "train.schedule=linear", "train.batch_size=4")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("resuming")


@pytest.fixture
def run(place: Path, prepared: Prepared, rows: MakeRows) -> Path:
    """The folder of a finished run, made once; tests that change it copy it."""
    if not (place / "run").exists():
        prepared(*TOLD, f"train.out={place / 'run'}", rows=rows(8), dev=rows(4)).train()
    return place / "run"


def contents(run: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "change",
    [
        "train.learning_rate=0.01", "model.max_length=64", "objective=ranknet", "train.epochs=4", "train.warmup=0.5",
        "data.label_range=[0, 2]", "train.arguments={optim: adamw_torch}", "model.layout=padded", "train.patience=3",
    ],
)  # fmt: skip
def test_another_setting_is_refused_and_nothing_changes(
    run: Path, prepared: Prepared, rows: MakeRows, change: str
) -> None:
    """A run neither goes on with a setting that it did not begin with nor writes it down: the message has both
    values."""
    before = contents(run)
    again = prepared(*TOLD, f"train.out={run}", change, rows=rows(8), dev=rows(4))
    with pytest.raises(InputError, match=rf"{change.partition('=')[0]} is .* and was .*--overwrite"):
        again.train(resume=True)

    assert contents(run) == before


def test_other_data_are_refused_and_nothing_changes(run: Path, prepared: Prepared, rows: MakeRows) -> None:
    """Other rows, the same in another order, another dev set, none at all; all that differs is named at once."""
    before = contents(run)
    edited = [dataclasses.replace(rows(8)[0], query="another question"), *rows(8)[1:]]
    for given, dev, what in (
        (edited, rows(4), "data.train holds 8 rows"),
        (rows(8)[::-1], rows(4), "data.train holds 8 rows"),
        (rows(9), rows(4), "data.train holds 9 rows"),
        (rows(8), rows(5), "data.eval holds 5 rows"),
        (rows(8), None, "data.eval holds no rows"),
    ):
        again = prepared(*TOLD, f"train.out={run}", "train.seed=1", rows=given, dev=dev)
        with pytest.raises(InputError, match=what) as told:
            again.train(resume=True)
        assert "train.seed is 1 and was 42" in str(told.value)

    assert contents(run) == before


def test_another_model_is_refused(run: Path, prepared: Prepared, rows: MakeRows, tmp_path: Path) -> None:
    """The folder that the run started from may move, and not become another one."""
    same = tiny_cross_encoder(tmp_path / "same", "bert")
    shutil.rmtree(same)
    shutil.copytree(json.loads((run / "config.json").read_text())["model"]["checkpoint"], same)
    shutil.copytree(run, tmp_path / "run")
    told = (*TOLD, f"train.out={tmp_path / 'run'}", f"model.checkpoint={same}")
    prepared(*told, rows=rows(8), dev=rows(4)).train(resume=True)
    other = tiny_cross_encoder(tmp_path / "other", "bert", std=0.2)
    again = prepared(*TOLD, f"train.out={run}", f"model.checkpoint={other}", rows=rows(8), dev=rows(4))
    before = contents(run)
    with pytest.raises(InputError, match=r"holds other files than the run began with: .*model\.safetensors"):
        again.train(resume=True)

    assert contents(run) == before


def test_what_may_change_does_and_is_written_down(
    run: Path, prepared: Prepared, rows: MakeRows, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Budget, logs and places are those of now, the steps those of then; other versions of libraries are said."""
    shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "checkpoint-4")
    start = tmp_path / "run" / "start.json"
    told = json.loads(start.read_text())
    told["versions"]["torch"] = "2.0.0"
    start.write_text(json.dumps(told))
    assert {"train.log_steps", "train.token_budget", "train.out"} <= resume_checks.MAY_CHANGE
    new = (f"train.out={tmp_path / 'run'}", "train.log_steps=2", "train.token_budget=100", "publish.license=mit")
    again = prepared(*TOLD, *new, rows=rows(8), dev=rows(4))
    again.train(resume=True)

    assert [one["step"] for one in again.trainer.state.log_history if "loss" in one] == [1, 2, 4]
    assert read_config(tmp_path / "run" / "config.json")["train"]["log_steps"] == 2
    assert "torch 2.0.0 -> " in caplog.text


def test_a_constant_rate_can_go_on_longer(prepared: Prepared, rows: MakeRows) -> None:
    """Where the next step does not depend on how many there will be, more may follow; fewer than taken may not."""
    first = prepared("train.max_steps=2", rows=rows(4))
    first.train()
    out = f"train.out={first.config.train.out}"
    more = prepared(out, "train.max_steps=3", rows=rows(4))
    more.train(resume=True)

    assert more.trainer.state.global_step == 3
    with pytest.raises(InputError, match=r"is at step 3, and the run would end at step 2"):
        prepared(out, "train.max_steps=2", rows=rows(4)).train(resume=True)


def test_the_whole_command_refuses_before_a_model_is_opened(
    configured: Configured, rows: MakeRows, tmp_path: Path
) -> None:
    """Through `train`, with files: a changed file, and the advice of the message, which works: another folder, or
    `overwrite`, and a new run from what was published."""
    data = tmp_path / "rows.jsonl"
    write(data, rows(4))
    config = configured(f"data.train=[{data}]", "train.max_steps=2", "train.warmup=0", f"train.out={tmp_path / 'run'}")
    train(config, publish=False)
    before = contents(tmp_path / "run")
    write(tmp_path / "renamed.jsonl", [dataclasses.replace(row, id=None) for row in rows(4)])
    renamed = dataclasses.replace(
        config, data=dataclasses.replace(config.data, train=(str(tmp_path / "renamed.jsonl"),))
    )
    with pytest.raises(InputError, match=r"holds 4 rows .* and held 4 rows .* named by its file and line"):
        train(renamed, resume=True)
    write(data, rows(5))
    broken = dataclasses.replace(config, model=dataclasses.replace(config.model, checkpoint="nowhere/at-all"))
    with pytest.raises(InputError, match=r"data\.train holds 5 rows .* and held 4 rows"):
        train(broken, resume=True)
    with pytest.raises(InputError, match="has no checkpoint to resume"):
        train(configured(f"data.train=[{data}]", f"train.out={tmp_path / 'never'}"), resume=True)
    assert contents(tmp_path / "run") == before
    assert not (tmp_path / "never").exists()

    published = publish_checkpoint(tmp_path / "run", tmp_path / "published", KINDS).directory
    told = set_values(dataclasses.asdict(config), [f"model.checkpoint={published}", f"train.out={tmp_path / 'new'}"])
    assert train(parse_config(told), publish=False).run.trainer.state.global_step == 2
    assert train(config, publish=False, overwrite=True).run.trainer.state.global_step == 2


def write(path: Path, rows: list[TrainingRow]) -> None:
    path.write_text("".join(json.dumps(row_to_json(row)) + "\n" for row in rows), encoding="utf-8")


def broken(run: Path, copy: Path, name: str, damage: Callable[[Path], None]) -> Path:
    """A copy of a run whose newest checkpoint has one file damaged."""
    shutil.copytree(run, copy)
    damage(copy / "checkpoints" / "checkpoint-4" / name)
    return copy


def halve(path: Path) -> None:
    """Cut a file short, as a killed process leaves it."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


@pytest.mark.parametrize("damage", [Path.unlink, halve], ids=["removed", "cut"])
def test_half_written_checkpoints_are_passed_over(
    run: Path, tmp_path: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    """Whichever file of the newest checkpoint is missing or cut short, resuming and publishing take the one before and
    say so; publishing does not need what only training reads."""
    read_by_both = (
        "trainer_state.json", "model.safetensors", "config.json", "tokenizer.json", "reranker.json",
    )  # fmt: skip
    for name in (*read_by_both, "optimizer.pt", "scheduler.pt", "rng_state.pth"):
        copy = broken(run, tmp_path / name, name, damage)
        caplog.clear()
        assert resume_checks.checkpoint_of(True, copy).name == "checkpoint-2", name
        assert "checkpoint-4 is skipped, because it is not a complete checkpoint: it" in caplog.text
        assert name in caplog.text
        if name in read_by_both:
            assert find_checkpoint(copy).name == "checkpoint-2", name
            with pytest.raises(
                InputError, match=r"is not a complete checkpoint: its? .*choose another with --checkpoint"
            ):
                find_checkpoint(copy, 4)
        elif damage is Path.unlink:
            assert find_checkpoint(copy, 4).name == "checkpoint-4", name


def test_a_state_without_a_step_is_no_checkpoint(run: Path, tmp_path: Path) -> None:
    """JSON that is whole and says nothing is passed over as well."""
    copy = broken(run, tmp_path / "run", "trainer_state.json", lambda path: path.write_text("{}"))
    assert resume_checks.checkpoint_of(True, copy).name == "checkpoint-2"


def test_publishing_takes_the_best_whatever_was_being_written(run: Path, tmp_path: Path) -> None:
    """A run killed while it saved leaves weights without a state; the best checkpoint is still the best."""
    shutil.copytree(run, tmp_path / "run")
    checkpoints = tmp_path / "run" / "checkpoints"
    state = json.loads((checkpoints / "checkpoint-4" / "trainer_state.json").read_text())
    state["best_model_checkpoint"] = str(checkpoints / "checkpoint-2")
    (checkpoints / "checkpoint-4" / "trainer_state.json").write_text(json.dumps(state))
    shutil.copytree(checkpoints / "checkpoint-4", checkpoints / "checkpoint-6")
    (checkpoints / "checkpoint-6" / "trainer_state.json").unlink()

    assert find_checkpoint(tmp_path / "run").name == "checkpoint-2"
    assert resume_checks.checkpoint_of(True, tmp_path / "run").name == "checkpoint-4"


def test_going_on_removes_what_was_never_finished(
    run: Path, prepared: Prepared, rows: MakeRows, tmp_path: Path
) -> None:
    """A half-written folder takes no place among the checkpoints that are kept, and nothing of it stays."""
    copy = broken(run, tmp_path / "run", "trainer_state.json", halve)
    assert [path.name for path in unfinished(copy)] == ["checkpoint-4"]
    again = prepared(*TOLD, f"train.out={copy}", rows=rows(8), dev=rows(4))
    trained(again, resume=True)

    assert unfinished(copy) == []
    assert folder(again, 4).is_dir()
    copy = broken(run, tmp_path / "none", "trainer_state.json", Path.unlink)
    shutil.rmtree(copy / "checkpoints" / "checkpoint-2")
    with pytest.raises(InputError, match="none of which is complete"):
        resume_checks.checkpoint_of(True, copy)


def test_other_sources_and_vectors_are_other_data(run: Path, configured: Configured, rows: MakeRows) -> None:
    """Steps of one source depend on the sources of the rows, and distillation on the teacher."""
    config = configured(*TOLD, f"train.out={run}")
    checkpoint = find_checkpoint(run)
    facts = data_facts(rows(8), rows(4), config.data)
    resume_checks.check_same(config, facts, checkpoint)
    by_source = data_facts(rows(8), rows(4), dataclasses.replace(config.data, same_source=True))
    with pytest.raises(InputError, match=r"rows of other sources, by which data\.same_source draws steps"):
        resume_checks.check_same(config, by_source, checkpoint)
    with pytest.raises(InputError, match=r"data\.teacher_vectors has other texts or another teacher"):
        resume_checks.check_same(config, {**facts, "vectors": ["0"]}, checkpoint)
