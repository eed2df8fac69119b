"""A model is loaded again only to rank, or where it may have changed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from rerank_eval.runs.known_models import KnownModels
from rerank_eval.runs.model_choice import ModelChoice, choices_of
from rerank_eval.runs.model_process import Loaded
from rerank_eval.runs.model_run import ModelRun, RunFacts
from rerank_eval.runs.run_models import run_models
from rerank_eval.sets.judged_set import JudgedSet

MakeSet = Callable[..., JudgedSet]
LOADED = Loaded("f1", {"dtype": "int8"}, RunFacts(parameters=3, versions={"rerank-core": "1"}))


def is_known(folder: Path, source: str, **options: object) -> bool:
    """Whether a model that was loaded is known to another process."""
    return KnownModels(folder).get(ModelChoice(source, options)) == LOADED


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "inside").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "inside" / "model.safetensors").write_bytes(b"weights")
    return folder


def test_a_folder_is_known_until_a_file_changes(model: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    KnownModels(kept).add(ModelChoice(str(model), {"layer": 8}), LOADED)
    assert is_known(kept, str(model), layer=8)
    assert not is_known(kept, str(model), layer=9)
    assert not is_known(kept, str(model))
    weights = model / "inside" / "model.safetensors"
    times = weights.stat()
    weights.write_bytes(b"Weights")
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns + 1))
    assert not is_known(kept, str(model), layer=8)


def test_the_weights_of_a_named_model_are_looked_at(toys: Path, model: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    KnownModels(kept).add(ModelChoice("toy-words", {"checkpoint": str(model)}), LOADED)
    assert is_known(kept, "toy-words", checkpoint=str(model))
    (model / "new.json").write_text("")
    assert not is_known(kept, "toy-words", checkpoint=str(model))


@pytest.mark.parametrize("source", ["owner/name", "llm:owner/name", "nosuch", "llm:toy-words"])
def test_what_may_change_elsewhere_is_never_known(source: str, toys: Path, tmp_path: Path) -> None:
    KnownModels(tmp_path).add(ModelChoice(source), LOADED)
    assert not is_known(tmp_path, source)


def test_an_adapter_is_never_known(model: Path, tmp_path: Path) -> None:
    """Its base is elsewhere."""
    (model / "adapter_config.json").write_text("{}")
    KnownModels(tmp_path / "kept").add(ModelChoice(str(model)), LOADED)
    assert not is_known(tmp_path / "kept", str(model))


def test_another_environment_is_another_model(toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    KnownModels(tmp_path).add(ModelChoice("toy-words"), LOADED)
    assert is_known(tmp_path, "toy-words")
    info = toys / "rerank_toy-1.2.dist-info"
    metadata = (info / "METADATA").read_text()
    (info / "METADATA").write_text(metadata.replace("1.2", "1.3"))
    assert not is_known(tmp_path, "toy-words")
    (info / "METADATA").write_text(metadata)
    assert is_known(tmp_path, "toy-words")
    monkeypatch.setenv("OMP_NUM_THREADS", "77")
    assert not is_known(tmp_path, "toy-words")


def test_a_torn_line_is_passed_over(toys: Path, tmp_path: Path) -> None:
    KnownModels(tmp_path).add(ModelChoice("toy-words"), LOADED)
    file = tmp_path / "models.jsonl"
    file.write_bytes(file.read_bytes()[:-20])
    assert not is_known(tmp_path, "toy-words")
    KnownModels(tmp_path).add(ModelChoice("toy-words"), LOADED)
    assert is_known(tmp_path, "toy-words")


class Loads:
    """A `Watcher` that notes which models are loaded, and the counts of queries."""

    def __init__(self) -> None:
        self.loads: list[str] = []
        self.kept = self.new = self.left = 0

    def loading(self, model: str) -> None:
        self.loads.append(model)

    def ranked(self, model: str, judged: str, *, kept: bool) -> None:
        self.kept += kept
        self.new += not kept

    def ended(self, model: str, judged: str, left: int, reason: str | None) -> None:
        self.left += left

    def warn(self, model: str, message: str) -> None: ...


def run(
    models: list[str], sets: list[JudgedSet], results: Path, budget: float | None = None
) -> tuple[list[ModelRun], Loads]:
    watcher = Loads()
    return run_models(choices_of(models, {}), sets, results=results, watcher=watcher, budget_ms=budget), watcher


def test_an_unchanged_run_loads_nothing(toys: Path, make_set: MakeSet, tmp_path: Path) -> None:
    """With the same runs, facts included; a further set loads the model."""
    sets = [make_set(3), make_set(2, name="other")]
    first, watched = run(["toy-words", "toy-lists"], sets, tmp_path / "kept")
    assert (watched.loads, watched.new) == (["toy-words", "toy-lists"], 6)
    again, watched = run(["toy-words", "toy-lists"], sets, tmp_path / "kept")
    assert (watched.loads, watched.kept, watched.new) == ([], 10, 0)
    assert again == first
    _, watched = run(["toy-words"], [make_set(4)], tmp_path / "kept")
    assert (watched.loads, watched.kept, watched.new) == (["toy-words"], 3, 1)


def test_a_dropped_model_stays_dropped_without_loading(toys: Path, make_set: MakeSet, tmp_path: Path) -> None:
    first, _ = run(["toy-words,delay=0.1"], [make_set(8)], tmp_path / "kept", 50)
    again, watched = run(["toy-words,delay=0.1"], [make_set(8)], tmp_path / "kept", 50)
    assert (watched.loads, watched.kept, watched.left) == ([], 5, 3)
    assert again == first


def test_a_failed_query_loads_the_model(toys: Path, make_set: MakeSet, tmp_path: Path) -> None:
    for _ in range(2):
        _, watched = run(["toy-words,fails=word2"], [make_set(3)], tmp_path / "kept")
        assert watched.loads == ["toy-words"]
