"""The files of a stranger's folder: what is none is refused by name, and what another library says is made ours."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from rerank_core import CheckpointError, InputError, MissingDependencyError
from rerank_core.spec.untrusted_files import JsonObject, read_json, reading, reason, regular_file


@pytest.mark.parametrize("kind", ["pipe", "folder", "link that leads nowhere", "device"])
def test_what_is_no_regular_file_is_never_opened(kind: str, tmp_path: Path) -> None:
    """A pipe, for which a reader would wait without end, is refused, and so are folders, devices and dead links."""
    path = tmp_path / "config.json"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero" if kind == "device" else tmp_path / "nowhere")

    for read in (regular_file, read_json):
        with pytest.raises(CheckpointError, match=r"config\.json is (no regular file|a broken link)"):
            read(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[1]", b"\0", b"\xff\xfe{}", b'{"a": "\\ud800"}', b"[" * 9000, b'{"a": ' + b"9" * 9000 + b"}"],
)
def test_what_is_no_json_object_is_named(content: bytes, tmp_path: Path) -> None:
    """Empty, cut, binary, of another encoding, too deep, of endless numbers, or with half of a surrogate pair."""
    (tmp_path / "config.json").write_bytes(content)

    with pytest.raises(CheckpointError, match=r"config\.json (cannot be read as JSON|holds)"):
        read_json(tmp_path / "config.json")


@pytest.mark.parametrize(
    ("value", "kind"),
    [("3", int), (True, int), (0.5, int), ([], int), (1, bool), ("yes", bool), (float("nan"), float),
     (float("inf"), float), (10**30, float), (False, float), (1, str), (["a"], str), ("a", dict), ({}, list)],
)  # fmt: skip
def test_values_of_another_type_are_named_with_their_place(value: Any, kind: type) -> None:
    """The message holds the file, the setting and the value; null is what the file does not say."""
    settings = JsonObject({"width": value, "none": None}, Path("folder/config.json"))

    with pytest.raises(CheckpointError, match=r"folder/config\.json: width is .*; it must be"):
        settings.of("width", kind, kind())
    assert settings.of("none", kind, kind()) == settings.of("absent", kind, kind()) == kind()


def test_numbers_may_be_whole() -> None:
    """An integer is a number, and lists of strings come as a tuple."""
    settings = JsonObject({"scale": 12, "words": ["a", "b"], "mixed": ["a", 1]}, Path("config.json"))

    assert settings.of("scale", float, 1.0) == 12.0
    assert settings.texts("words") == ("a", "b")
    with pytest.raises(CheckpointError, match="mixed is"):
        settings.texts("mixed")


class PanicException(BaseException):
    """Named like what pyo3 raises, which no module exports."""


class OutOfMemoryError(RuntimeError):
    """Named like torch's."""


@pytest.mark.parametrize("error", [TypeError("x"), RuntimeError(), KeyError("x"), PanicException("x"), OSError("x")])
def test_every_error_of_a_folder_becomes_one(error: BaseException) -> None:
    """Whatever a library raises over a folder names the folder, panics of Rust included."""
    with pytest.raises(CheckpointError, match="the/folder cannot be used"), reading("the/folder"):
        raise error


@pytest.mark.parametrize("error", [MemoryError(), OutOfMemoryError(), KeyboardInterrupt(), SystemExit(), InputError()])
def test_what_is_no_fault_of_the_folder_passes(error: BaseException) -> None:
    """A machine without memory, Ctrl-C and the caller's own mistakes are not the folder's."""
    with pytest.raises(type(error)) as caught, reading("the/folder"):
        raise error
    assert caught.value is error


def test_packages_and_values_are_told_apart() -> None:
    """A package that is missing is that; where nothing comes from the caller, a bad value is the folder's."""
    with pytest.raises(MissingDependencyError, match=r"the/folder.*optimum"), reading("the/folder"):
        raise ImportError("needs optimum")
    with pytest.raises(CheckpointError, match="the/folder: max_length"), reading("the/folder", inputs=False):
        raise InputError("max_length is -1")


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("It holds code. Please pass `trust_remote_code=True` to allow it.", "It holds code."),
        ("Not there. If this is a private repo, run `hf auth login`, or pass token=x.", "Not there."),
        ("size mismatch\nYou may consider adding `ignore_mismatched_sizes=True`", "size mismatch"),
        ("set trust_remote_code=True", "ValueError"),
        ("", "ValueError"),
        ("half \ud800 of a pair", "half \\ud800 of a pair"),
    ],
)
def test_advice_that_does_not_hold_here_is_left_out(said: str, kept: str) -> None:
    """What transformers tells its own users to set, `load` would refuse; a message is text that can be written."""
    assert reason(ValueError(said)) == kept
    assert len(reason(ValueError("x" * 10_000))) < 400
    json.dumps(reason(ValueError(said))).encode()
