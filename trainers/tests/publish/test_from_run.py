"""From a run and its checkpoints to a published folder: the same scores, the right checkpoint, a card that knows."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

import rerank_core
from rerank_core import CheckpointError, InputError
from rerank_core.records.training_row import TrainingRow
from rerank_core.testing import tiny_cross_encoder
from rerank_trainers.config.schema import PublishConfig
from rerank_trainers.data.row_store import open_rows
from rerank_trainers.data.row_writer import row_to_json
from rerank_trainers.kinds import KINDS
from rerank_trainers.loop.prepare import Run, live_reranker
from rerank_trainers.loop.run_record import data_facts, record
from rerank_trainers.model.checkpoints import config_beside, find_checkpoint, open_checkpoint
from rerank_trainers.publish.from_run import publish_checkpoint, publish_run

PAIRS = [("what is a panda?", "a bear of the mountains of China"), ("熊猫吃什么？", "每天吃很多竹子"), ("q", "")]
Rows = Callable[..., list[TrainingRow]]
Prepared = Callable[..., Run]


def scores(folder: Path) -> list[float]:
    with rerank_core.load(folder, device="cpu") as reranker:
        return reranker.score(PAIRS)


def test_a_run_is_published_with_all_that_it_knows(prepared: Prepared, rows: Rows, tmp_path: Path) -> None:
    """The folder scores as the weights that the run holds; its card has data, settings, and the gain on the dev set."""
    run = prepared("train.eval_steps=3", rows=rows(12), dev=rows(6))
    before = run.evaluate()
    run.train()
    data = tmp_path / "train.jsonl"
    data.write_text("".join(json.dumps(row_to_json(row)) + "\n" for row in rows(12)), encoding="utf-8")
    record(run.config.train.out, "data", data_facts(open_rows([data]), None, run.config.data))
    found = publish_run(run, before=before, after=run.evaluate())
    assert found.directory == Path(run.config.train.out).resolve() / "final"
    assert scores(found.directory) == pytest.approx(live_reranker(run.model).score(PAIRS), rel=1e-5, abs=1e-5)
    card = (found.directory / "README.md").read_text("utf-8")
    for line in (
        "| train.jsonl | 12 |",
        f"SHA-256 of the training files: `{hashlib.sha256(data.read_bytes()).hexdigest()}`",
        "| objective | softmax_ce |",
        "| steps | 3 |",
    ):
        assert line in card.splitlines(), line
    assert "| measure | before | after | difference |" in card
    assert str(tmp_path) not in card


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place for the run that several tests read."""
    return tmp_path_factory.mktemp("trained") / "run"


@pytest.fixture
def run(trained: Path, prepared: Prepared, rows: Rows) -> Path:
    """Two checkpoints of a run with adapters and a head that no checkpoint had; the first is made the best."""
    if not trained.exists():
        base = tiny_cross_encoder(trained.parent / "base", "bert", head=False, std=0.2)
        run = prepared(
            f"train.out={trained}", f"model.checkpoint={base}", "model.lora={r: 4}", "train.epochs=2",
            "train.learning_rate=0.5", rows=rows(8),
        )  # fmt: skip
        run.train()
        state = trained / "checkpoints" / "checkpoint-4" / "trainer_state.json"
        told = json.loads(state.read_text("utf-8"))
        assert told["best_model_checkpoint"] is None
        told["best_model_checkpoint"] = "/elsewhere/run/checkpoints/checkpoint-2"
        state.write_text(json.dumps(told))
    return trained


def test_the_best_checkpoint_is_found_wherever_the_run_lies(run: Path, tmp_path: Path) -> None:
    """The best is published, else the last; a number says which; a checkpoint's own folder is itself."""
    assert find_checkpoint(run).name == "checkpoint-2"
    assert find_checkpoint(run, 4).name == "checkpoint-4"
    one = run / "checkpoints" / "checkpoint-4"
    assert find_checkpoint(one) == one
    config = config_beside(one)
    assert config is not None
    assert config.model.lora is not None
    with pytest.raises(InputError, match=r"no checkpoint 3; there are 2, 4"):
        find_checkpoint(run, 3)
    with pytest.raises(InputError, match=r"neither reranker\.json nor checkpoints/checkpoint-N"):
        find_checkpoint(tmp_path)
    shutil.copytree(one, tmp_path / "moved")
    assert config_beside(tmp_path / "moved") is None


def test_a_checkpoint_of_adapters_is_published_merged(run: Path, rows: Rows, tmp_path: Path) -> None:
    """The base and the adapter, with the head that was trained beside it, become one plain folder with equal scores."""
    model = open_checkpoint(find_checkpoint(run, 4), KINDS, config_beside(find_checkpoint(run, 4)).model)  # type: ignore[union-attr]
    first = open_checkpoint(find_checkpoint(run), KINDS, config_beside(find_checkpoint(run)).model)  # type: ignore[union-attr]
    wanted = live_reranker(model).score(PAIRS)
    assert wanted != pytest.approx(live_reranker(first).score(PAIRS), abs=1e-3)
    found = publish_checkpoint(
        run, tmp_path / "out", KINDS, PublishConfig(license="mit", languages=("zh",)), checkpoint=4, dev_rows=rows(5)
    )
    assert not (tmp_path / "out" / "adapter_config.json").exists()
    assert scores(found.directory) == pytest.approx(wanted, rel=1e-5, abs=1e-5)
    card = (found.directory / "README.md").read_text("utf-8")
    assert yaml.safe_load(card.split("---\n")[1])["license"] == "mit"
    assert "Dev set of 5 queries" in card
    assert "fine-tuned from `base`" in card
    assert "| steps | 4 |" in card


def test_an_adapter_opens_without_its_run(run: Path, tmp_path: Path) -> None:
    """A checkpoint's folder alone says where its base lies, and gives the same model."""
    shutil.copytree(run / "checkpoints" / "checkpoint-4", tmp_path / "moved")
    config = config_beside(find_checkpoint(run))
    assert config is not None
    wanted = live_reranker(open_checkpoint(find_checkpoint(run, 4), KINDS, config.model)).score(PAIRS)
    assert live_reranker(open_checkpoint(tmp_path / "moved", KINDS)).score(PAIRS) == wanted


def test_a_checkpoint_without_its_head_is_refused(run: Path, tmp_path: Path) -> None:
    """Weights that neither the base nor the adapter has would be random, and are named."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(run / "checkpoints" / "checkpoint-4", tmp_path / "moved")
    weights = load_file(tmp_path / "moved" / "adapter_model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if "classifier" not in name}
    assert len(kept) < len(weights)
    save_file(kept, tmp_path / "moved" / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match="classifier"):
        open_checkpoint(tmp_path / "moved", KINDS)


@pytest.mark.parametrize("kind", ["llm", "layerwise"])
def test_a_language_model_goes_the_same_way(
    kind: str, prepared: Prepared, decoder: Path, rows: Rows, tmp_path: Path
) -> None:
    """A template of one's own comes back from an adapter's checkpoint, with the run's configuration or without."""
    run = prepared(
        f"model.checkpoint={decoder}", f"model.kind={kind}", "model.lora={r: 4}", "train.learning_rate=0.1",
        "model.template={query: 'query: {query}', between: \"\\n\", doc: 'document: {doc}', after: \"\\n\"}",
        *(["model.answers=['yes', 'no']"] if kind == "llm" else ["model.first_layer=2"]), rows=rows(4),
    )  # fmt: skip
    run.train()
    wanted = live_reranker(run.model).score(PAIRS)
    checkpoint = find_checkpoint(Path(run.config.train.out))
    shutil.copytree(checkpoint, tmp_path / "moved")
    for model in (open_checkpoint(checkpoint, KINDS, run.config.model), open_checkpoint(tmp_path / "moved", KINDS)):
        assert live_reranker(model).score(PAIRS) == pytest.approx(wanted, rel=1e-5, abs=1e-5)
    if kind == "layerwise":
        found = publish_checkpoint(tmp_path / "moved", tmp_path / "out", KINDS)
        assert scores(found.directory) == pytest.approx(wanted, rel=1e-5, abs=1e-5)
