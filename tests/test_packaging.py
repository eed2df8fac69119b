"""What `pip install` and the package index get: every distribution holds its own files, all of them, and no others."""

from __future__ import annotations

import re
import tarfile
import zipfile
from email import message_from_string
from pathlib import Path

import pytest

build = pytest.importorskip("hatchling.build")

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {ROOT: "rerank_core", ROOT / "trainers": "rerank_trainers"} | {
    folder: folder.name for folder in sorted((ROOT / "plugins").iterdir()) if (folder / "pyproject.toml").is_file()
}


@pytest.fixture(params=PACKAGES, ids=PACKAGES.values())
def folder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a distribution, as the current directory, which is where a build tool calls the backend."""
    found: Path = request.param
    monkeypatch.chdir(found)
    return found


def sources(folder: Path) -> set[str]:
    """The files of the package in a distribution's folder, as they are named in a wheel."""
    package = next(place for place in (folder / PACKAGES[folder], folder / "src" / PACKAGES[folder]) if place.is_dir())
    files = (file for file in package.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    return {f"{PACKAGES[folder]}/{file.relative_to(package).as_posix()}" for file in files}


def test_a_wheel_has_its_package_its_licence_and_its_types(folder: Path, tmp_path: Path) -> None:
    """A wheel is the package, whole, with `py.typed` and the text of the licence."""
    with zipfile.ZipFile(tmp_path / build.build_wheel(str(tmp_path))) as wheel:
        names = set(wheel.namelist())
        info = next(name.partition("/")[0] for name in names if ".dist-info/" in name)
        metadata = message_from_string(wheel.read(f"{info}/METADATA").decode())
        licence = wheel.read(f"{info}/licenses/LICENSE")

    assert {name for name in names if not name.startswith(info)} == sources(folder)
    assert f"{PACKAGES[folder]}/py.typed" in names
    assert licence == (ROOT / "LICENSE").read_bytes()
    assert (metadata["License-Expression"], metadata.get_all("License-File")) == ("Apache-2.0", ["LICENSE"])
    assert str(metadata.get_payload()).strip() == (folder / "README.md").read_text(encoding="utf-8").strip()


def test_a_source_distribution_has_nothing_of_another_package(folder: Path, tmp_path: Path) -> None:
    """The sdist holds the sources, the licence and the README of its own package, and of no other."""
    with tarfile.open(tmp_path / build.build_sdist(str(tmp_path))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    source = "" if folder == ROOT else "src/"

    assert {f"{source}{name}" for name in sources(folder)} <= names
    others = {name for name in names if not re.match(rf"{source}{PACKAGES[folder]}/|tests/", name)}
    assert others - {"CHANGELOG.md", ".gitignore"} == {"README.md", "LICENSE", "PKG-INFO", "pyproject.toml"}
    assert folder != ROOT or not any(name.startswith("tests/") for name in names)
    assert not any("__pycache__" in name for name in names)
