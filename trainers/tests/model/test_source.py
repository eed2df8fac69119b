"""What training starts from: the same strings name the same things as for `rerank_core.load`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rerank_core import CheckpointError, ModelSpec
from rerank_core.plugins import registry
from rerank_core.testing import tiny_causal_lm
from rerank_trainers.config.schema import ModelConfig
from rerank_trainers.model import source as source_module
from rerank_trainers.model.source import source_of
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
    assert source_of(ModelConfig(checkpoint=named)).directory == (here / named).resolve()


def test_a_folder_never_takes_over_a_models_name(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain string that is a model's name starts from that model's files, which the hub has."""
    asked: list[ModelSpec] = []

    def located(spec: ModelSpec, options: object) -> Path:
        asked.append(spec)
        return here / "own/model"

    monkeypatch.setattr(source_module, "locate", located)
    source = source_of(ModelConfig(checkpoint="BAAI/bge-reranker-base"))

    assert asked == [registry.default().named("bge-reranker-base")]
    assert source.directory == here / "own/model"


@pytest.mark.parametrize("missing", ["./no/model", "~/no/such/model", "/no/such/model", "../no"])
def test_a_path_that_is_not_there_is_said(missing: str, here: Path) -> None:
    """A path without a directory is a CheckpointError at once; the hub is not asked."""
    with pytest.raises(CheckpointError, match="no such directory"):
        source_of(ModelConfig(checkpoint=missing))


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
