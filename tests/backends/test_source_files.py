"""The files that count in a fingerprint: by content, whatever else is in the folder and wherever it is."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import rerank_core
from rerank_core import CheckpointError, Head, ModelSpec, Template, TokenVectors
from rerank_core.backends.source_files import digests, note, noted
from rerank_core.testing import tiny_cross_encoder

SPEC = ModelSpec(name="classifier", template=Template.pair(), head=Head.classifier())


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cross-encoder's folder, not to be changed."""
    return tiny_cross_encoder(tmp_path_factory.mktemp("models") / "classifier", "bert")


def of(folder: Path, spec: ModelSpec = SPEC) -> list[dict[str, str]]:
    """The digests of a folder's files."""
    with noted() as files:
        note(folder, spec)
    return digests(files)


def copied(folder: Path, target: Path, change: Callable[[Path], object] = lambda _: None) -> Path:
    """A copy of a folder, changed."""
    shutil.copytree(folder, target)
    change(target)
    return target


def set_json(name: str, **values: object) -> Callable[[Path], object]:
    """Sets values of a JSON file in a folder."""
    return lambda folder: (folder / name).write_text(json.dumps({**json.loads((folder / name).read_text()), **values}))


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        (set_json("config.json", _name_or_path="/home/me", transformers_version="5"), True),
        (set_json("config.json", _name_or_path="/home/me"), False),
        (set_json("config.json", layer_norm_eps=1e-3), True),
        (set_json("tokenizer_config.json", name_or_path="/home/me"), False),
        (lambda folder: (folder / "README.md").write_text("new"), False),
        (lambda folder: (folder / "calibration.json").write_text("{}"), False),
        (lambda folder: (folder / "trainer_state.json").write_text("{}"), False),
        (lambda folder: copied(folder, folder / "checkpoint-5"), False),
        (lambda folder: copied(folder, folder / "onnx"), False),
        (lambda folder: (folder / "chat_template.jinja").write_text("{{ 1 }}"), True),
        (lambda folder: copied(folder, folder / "2_Dense"), True),
    ],
)
def test_files_count_by_content_where_they_change_scores(
    classifier: Path, tmp_path: Path, change: Callable[[Path], object], differs: bool
) -> None:
    first, second = (copied(classifier, tmp_path / name) for name in ("a", "b"))
    change(second)
    assert (of(first) != of(second)) is differs


def test_one_bit_of_the_weights_changes_it(classifier: Path, tmp_path: Path) -> None:
    """The middle of the file, where a digest of its ends or of samples would miss it."""

    def flip(folder: Path) -> None:
        data = bytearray((folder / "model.safetensors").read_bytes())
        data[len(data) * 3 // 5] ^= 1
        (folder / "model.safetensors").write_bytes(data)

    assert of(copied(classifier, tmp_path / "flipped", flip)) != of(classifier)


def test_files_that_changed_since_are_refused(classifier: Path, tmp_path: Path) -> None:
    """The model in memory is no longer that of the folder; a digest that was taken before stays."""
    folder = copied(classifier, tmp_path / "model")
    early, late = (rerank_core.load(folder, device="cpu") for _ in range(2))
    known = early.fingerprint
    config = folder / "config.json"
    config.write_text(config.read_text() + " ")
    assert early.fingerprint == known == late.fingerprint
    other = rerank_core.load(folder, device="cpu")
    (folder / "config.json").write_text("{} ")
    with pytest.raises(CheckpointError, match=r"config.json changed after the model was loaded.*load the model again"):
        other.fingerprint  # noqa: B018
    shutil.rmtree(folder)
    with pytest.raises(CheckpointError, match=r"cannot be read any more"):
        other.fingerprint  # noqa: B018


def test_files_that_the_spec_names_count(classifier: Path, tmp_path: Path) -> None:
    """Those with a digest, a projection, and pickled weights of a publisher who offers no others."""
    folder = copied(classifier, tmp_path / "model")
    for name in ("weights.q4", "proj.pt", "pytorch_model.bin", "other.bin"):
        (folder / name).write_bytes(b"1")
    plain = {path.name for path in folder.iterdir()} & set(of(folder)[0])
    vectors = ModelSpec(
        name="late", template=Template.each(), head=Head.maxsim("sum", TokenVectors(projection=("proj.pt",)))
    )
    more = [
        (ModelSpec(name="named", head=Head.classifier(), sha256={"weights.q4": "0" * 64}), "weights.q4"),
        (vectors, "proj.pt"),
        (ModelSpec(name="pickled", head=Head.classifier(), pickled=True), "pytorch_model.bin"),
    ]
    for spec, name in more:
        assert set(of(folder, spec)[0]) == {*plain, name}


def test_links_and_what_is_no_file_do_no_harm(classifier: Path, tmp_path: Path) -> None:
    """A folder of links has the digests of their targets; a circle of links, a pipe and a broken link are no files."""
    folder = tmp_path / "links"
    folder.mkdir()
    for path in classifier.iterdir():
        (folder / path.name).symlink_to(path)
    (folder / "self").symlink_to(folder)
    os.mkfifo(folder / "generation_config.json")
    (folder / "modules.json").symlink_to(tmp_path / "absent")
    found = of(folder)[0]
    assert {name: digest for name, digest in found.items() if not name.startswith("self/")} == of(classifier)[0]


def test_nothing_is_noted_outside_of_a_load(classifier: Path) -> None:
    note(classifier, SPEC)
    with noted() as files:
        pass
    assert digests(files) == []
