"""What training starts from: the same strings name the same things as for `rerank_core.load`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rerank_core import CheckpointError, Head, ModelSpec, Reranker, load, write_spec
from rerank_core.plugins import registry
from rerank_core.testing import fake_spec, tiny_causal_lm, tiny_cross_encoder
from rerank_trainers.config.schema import ModelConfig
from rerank_trainers.kinds import KINDS
from rerank_trainers.model import source as source_module
from rerank_trainers.model.source import source_of
from rerank_trainers.model.trained_model import open_model
from rerank_trainers.publish.card import public_name


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current directory with a folder of the name of an installed model, and one of no model's name."""
    for name in ("BAAI/bge-reranker-base", "own/model"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.json").write_text("{}", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("named", ["./BAAI/bge-reranker-base", "own/model", "./own/model"])
def test_a_path_or_a_string_that_no_model_has_is_a_directory(named: str, here: Path) -> None:
    """A string written as a path names the directory, whatever model is called like it."""
    assert source_of(ModelConfig(checkpoint=named), CROSS).directory == (here / named).resolve()


CROSS = KINDS["cross-encoder"]


def test_a_folder_never_takes_over_a_models_name(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain string that is a model's name starts from that model's files, which the hub has."""
    asked: list[ModelSpec] = []

    def located(spec: ModelSpec, options: object) -> Path:
        asked.append(spec)
        return here / "own/model"

    monkeypatch.setattr(source_module, "locate", located)
    source = source_of(ModelConfig(checkpoint="BAAI/bge-reranker-base"), CROSS)

    assert asked == [registry.default().named("bge-reranker-base")]
    assert source.directory == here / "own/model"


@pytest.mark.parametrize("missing", ["./no/model", "~/no/such/model", "/no/such/model", "../no"])
def test_a_path_that_is_not_there_is_said(missing: str, here: Path) -> None:
    """A path without a directory is a CheckpointError at once; the hub is not asked."""
    with pytest.raises(CheckpointError, match="no such directory"):
        source_of(ModelConfig(checkpoint=missing), CROSS)


def test_a_snapshot_of_the_hubs_cache_is_published_under_its_hub_id(tmp_path: Path) -> None:
    """The card of a model trained from the hub's cache names the hub id, not the commit's 40 digits."""
    assert public_name(str(tmp_path / "models--BAAI--bge-m3" / "snapshots" / ("a" * 40))) == "BAAI/bge-m3"


@pytest.mark.parametrize(("name", "value"), [("continuing_subword_prefix", "\0"), ("dropout", 5), ("type", 3)])
def test_a_tokenizer_that_ends_processes_ends_no_training(name: str, value: object, tmp_path: Path) -> None:
    """Training reads a stranger's tokenizer as serving does: what aborts or cannot be read names its file."""
    folder = tiny_causal_lm(tmp_path / "model")
    said = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    said["model"][name] = value
    (folder / "tokenizer.json").write_text(json.dumps(said), encoding="utf-8")

    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        source_module.tokenizer_of(folder)


@pytest.mark.parametrize("family", ["bert", "xlm-roberta"])
def test_a_reranker_with_two_labels_starts_with_its_scores(tmp_path: Path, family: Any) -> None:
    """The rows of its two labels become one row, their difference; other classifiers start with a random head."""
    folder = tiny_cross_encoder(tmp_path / "two", family, labels=2)
    pairs = [("what is a panda?", "a bear"), ("what is a panda?", "竹子")]
    fresh = open_model(ModelConfig(checkpoint=str(folder), kind="cross-encoder"), CROSS, name="x").fresh
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config["id2label"], config["label2id"] = {"0": "yes", "1": "no"}, {"yes": 0, "no": 1}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    expected = load(folder, device="cpu").score(pairs)
    model = open_model(ModelConfig(checkpoint=str(folder), kind="cross-encoder"), CROSS, name="x")
    model.module.eval()

    assert any("classifier" in name for name in fresh)
    assert (model.fresh, model.spec.head, model.spec.options, model.plain.config.num_labels) == (
        (),
        Head.classifier(),
        (),
        1,
    )
    assert Reranker.from_scorer(model.scorer, model.spec).score(pairs) == pytest.approx(expected, abs=1e-5)


def test_the_label_of_a_reranker_json_is_the_start_too(tmp_path: Path) -> None:
    """The file says which of two labels without names is the score; the trained model has no such option."""
    folder = tiny_cross_encoder(tmp_path / "two", "bert", labels=2)
    head = Head.classifier(labels=("LABEL_0", "LABEL_1"), label="LABEL_0")
    write_spec(fake_spec("two", head=head), folder)
    expected = load(folder, device="cpu").score([("a", "bear")])
    model = open_model(ModelConfig(checkpoint=str(folder), kind="cross-encoder"), CROSS, name="x")
    model.module.eval()

    assert (model.fresh, model.spec.head, model.spec.options) == ((), Head.classifier(), ())
    assert Reranker.from_scorer(model.scorer, model.spec).score([("a", "bear")]) == pytest.approx(expected, abs=1e-5)
