"""What a string or path stands for: a directory, a hub id or a model's name, the same wherever one is given."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import rerank_core
from helpers.plugin_factory import install
from rerank_core import CheckpointError, InputError, Options, UnknownModelError
from rerank_core.cli import app
from rerank_core.plugins.registry import Registry
from rerank_core.spec.hub_or_folder import file_path_of, model_name_of, text_of
from rerank_core.testing import fake_spec, tiny_cross_encoder

Discover = Callable[[], Registry]


class Somewhere(os.PathLike[str]):
    """A path that is no `Path`."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __fspath__(self) -> str:
        return self.path


def described(folder: Path) -> Path:
    """A folder that says of itself that it is a reranker; nothing that could score."""
    folder.mkdir(parents=True)
    config = {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "LABEL_0"}}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


@pytest.fixture
def here(tmp_path: Path, discover: Discover, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current directory with folders of the names of an installed model, of one that is not, and of none."""
    install(tmp_path, "acme", more=', aliases=("Acme/Small",)')
    folder = tmp_path / "here"
    for name in ("acme-small", "Acme/Small", "own/model", "plain"):
        described(folder / name)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    return folder


@pytest.mark.parametrize(
    ("source", "folder"),
    [
        (Path("Acme/Small"), "Acme/Small"),
        (Path("acme-small"), "acme-small"),
        (Somewhere("Acme/Small"), "Acme/Small"),
        ("./Acme/Small", "Acme/Small"),
        ("../here/acme-small", "acme-small"),
        ("~/Acme/Small", "Acme/Small"),
        (Path("~/Acme/Small"), "Acme/Small"),
        ("own/model", "own/model"),
        ("plain", "plain"),
        ("plain/", "plain"),
    ],
)
def test_a_path_is_a_directory(source: Any, folder: str, here: Path, discover: Discover) -> None:
    """A path object, a string written as one, and a string that no model has, name the directory: for `load` and for
    ``checkpoint=`` alike."""
    known, text = discover(), text_of(source, "the model")

    assert known.resolve(text).checkpoint == str(here / folder)
    assert os.path.samefile(known.checkpoint(text), here / folder)


@pytest.mark.parametrize("name", ["acme-small", "Acme/Small"])
def test_a_folder_never_takes_over_a_name(
    name: str, here: Path, discover: Discover, caplog: pytest.LogCaptureFixture
) -> None:
    """A plain string that is a model's name stays that name, and the log says which folder was ignored."""
    with caplog.at_level(logging.WARNING, "rerank_core"):
        assert discover().resolve(name).scorer == "rerank_acme:make"
    assert f"write './{name}' for the folder" in caplog.text


def test_a_folder_does_not_stand_in_for_a_model_that_is_not_installed(here: Path) -> None:
    """A first-party name keeps its install line, whatever folder there is: what it means depends on no installation."""
    described(here / "BAAI" / "bge-reranker-base")
    with pytest.raises(UnknownModelError, match=r"folder of that name is '\./BAAI.*pip install rerank-bge"):
        Registry([]).resolve("BAAI/bge-reranker-base")


def test_a_checkpoint_that_is_a_name_is_no_folder(here: Path, discover: Discover) -> None:
    """``checkpoint=`` stays a hub id where it is one, and says so where a name is no place of weights."""
    known = discover()
    assert known.checkpoint("Acme/Small") == "Acme/Small"
    assert known.checkpoint("package:acme/model") == "package:acme/model"
    with pytest.raises(CheckpointError, match="is a model's name"):
        known.checkpoint("acme-small")


@pytest.mark.parametrize(
    "path",
    ["./no/model", "../no", "/no/model", "~/no", "C:/no", "C:\\no\\model", ".\\no", "\\\\no\\model", "~nobody/no"],
)
def test_a_path_that_is_not_there_is_never_asked_for(path: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path without a directory is a CheckpointError at once, never a name and never a question to the hub."""
    monkeypatch.setattr("rerank_core.loading.import_backend", lambda name: pytest.fail("the hub was asked"))
    with pytest.raises(CheckpointError, match="no such directory"):
        rerank_core.load(path)
    with pytest.raises(CheckpointError, match="no such directory"):
        rerank_core.load(Path(path))
    with pytest.raises(CheckpointError, match="no such directory"):
        rerank_core.load("mini", checkpoint=path)
    done = CliRunner().invoke(app, ["models", path])
    assert (done.exit_code, "no such directory" in done.output) == (1, True)


@pytest.mark.parametrize(
    "name", ["no", "a/b/c", "a//b", "-a/b", "a/b.", "a--b/c", "a/b..c", "x" * 5000, "a/" + "b" * 96]
)
def test_what_is_no_hub_id_is_not_asked_for(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub is asked only for what can be an id of it."""
    monkeypatch.setattr("rerank_core.loading.import_backend", lambda name: pytest.fail("the hub was asked"))
    with pytest.raises(UnknownModelError):
        rerank_core.load(name)


@pytest.mark.parametrize("source", [3, None, b"mini", ["mini"], Somewhere(b"mini")])  # type: ignore[arg-type]
def test_a_source_is_a_string_or_a_path(source: Any) -> None:
    """Anything else is an InputError, for the model and for its checkpoint."""
    with pytest.raises(InputError, match="the model is"):
        rerank_core.load(source)
    if source is not None:
        with pytest.raises(InputError, match="checkpoint is"):
            rerank_core.load("mini", checkpoint=source)


def test_a_snapshot_of_the_hubs_cache_has_its_hub_id_for_a_name(tmp_path: Path) -> None:
    """A directory in the hub's cache, given by its path, is called owner/name, not by the commit's 40 digits."""
    pytest.importorskip("transformers", reason="the checkpoint is written with it")
    folder = tiny_cross_encoder(tmp_path / "models--Acme--my-Reranker" / "snapshots" / ("a" * 40), "bert")
    reranker = rerank_core.load(folder, device="cpu")
    ranking = reranker.rerank("panda", ["bear"])

    assert reranker.spec.name == ranking.model == ranking.to_dict()["model"] == "Acme/my-Reranker"
    assert repr(reranker) == "<Reranker 'Acme/my-Reranker' on cpu>"


def test_a_commit_is_no_name(tmp_path: Path) -> None:
    """A model of the hub's first years, without an owner, is not called by the commit's digits either."""
    assert model_name_of(tmp_path / "models--tinybert" / "snapshots" / ("a" * 40)) == "tinybert"


@pytest.mark.parametrize(("device", "meant"), [(0, "cuda:0"), ("3", "cuda:3"), ("cpu", "cpu"), ("cuda:1", "cuda:1")])
def test_a_number_is_a_device(device: Any, meant: str) -> None:
    """A number names a GPU, as in torch and transformers."""
    assert Options.of(fake_spec(), {"device": device}).device == meant


def test_torchs_own_devices_are_devices() -> None:
    """A torch.device is taken by its name."""
    torch = pytest.importorskip("torch")
    for device in ("cpu", "cuda:1"):
        assert Options.of(fake_spec(), {"device": torch.device(device)}).device == device


@pytest.mark.parametrize(
    ("device", "meant"),
    [
        (["cuda:0", 1, "2"], "cuda:0,cuda:1,cuda:2"),
        ("0, cuda:1", "cuda:0,cuda:1"),
        (("cpu", "cpu"), "cpu,cpu"),
        (["cuda:1"], "cuda:1"),
        ("cuda:all", "cuda:all"),
        (["cuda:all"], "cuda:all"),
    ],
)
def test_several_devices_are_a_list_or_a_string(device: Any, meant: str) -> None:
    """Commas join them, as on a command line; a list of one is that one."""
    options = Options.of(fake_spec(), {"device": device})
    assert options.device == meant
    assert options.several_devices == ("," in meant or meant == "cuda:all")


@pytest.mark.parametrize(
    ("device", "said"),
    [
        ([], "names no device"),
        (["cpu", "cuda:0"], "of one kind"),
        ("cuda:0,cuda:all", "give it alone"),
        (["cpu", None], "a list of these"),
        ("cuda:0,", "a list of these"),
        ([["cpu"]], "a list of these"),
    ],
)
def test_several_devices_that_make_no_sense_are_refused(device: Any, said: str) -> None:
    """Before anything is read; the message says what the value is."""
    with pytest.raises(InputError, match=f"device is .*{said}"):
        Options.of(fake_spec(), {"device": device})


@pytest.mark.parametrize("device", [True, False, -1, 1.0, "", object(), {"cpu"}])
def test_what_is_no_device_is_refused(device: Any) -> None:
    """Truth values, negative numbers and other objects are no devices, whatever their string would say."""
    with pytest.raises(InputError, match="device is"):
        Options.of(fake_spec(), {"device": device})


@pytest.mark.parametrize(
    "path", ["", "a\0b", "\ud800", "x" * 5000, "a/" + "x" * 256 + "/b", "\u5927" * 86, "x/" * 2500]
)
def test_a_path_that_no_file_system_holds_is_an_input_error(path: str) -> None:
    """Impossible paths are named before anything asks the system for them."""
    with pytest.raises(InputError, match="the place is"):
        file_path_of(path, "the place")
    assert file_path_of("x" * 255, "the place")
