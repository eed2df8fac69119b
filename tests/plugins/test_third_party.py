"""A stranger's plugin: one module, one entry point, pip-installed, next to a broken one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import textwrap
import venv
from pathlib import Path

import pytest

PYPROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "rerank-{name}"
version = "0.1"
dependencies = ["rerank-core>=0.1,<0.2"]

[project.entry-points.rerank_core]
{name} = "rerank_{name}"
"""

ACME = '''
"""Acme rerankers: how many words of the query a document has."""

from rerank_core import ModelSpec, hookimpl


@hookimpl
def rerank_register_models(register):
    register(ModelSpec(name="acme-words", scorer="rerank_acme:Words", description="Shared words"))


class Words:
    def __init__(self, spec, options):
        pass

    def score(self, query, docs):
        asked = set(query.lower().split())
        return [float(len(asked & set(doc.lower().split()))) for doc in docs]
'''

BROKEN = """
import a_library_that_is_not_there
"""


def write(folder: Path, name: str, code: str) -> Path:
    """A plugin's source: pyproject.toml and one module."""
    folder.mkdir()
    (folder / "pyproject.toml").write_text(PYPROJECT.format(name=name), encoding="utf-8")
    (folder / f"rerank_{name}.py").write_text(textwrap.dedent(code), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment with both plugins installed by pip.

    What this suite runs on (the core, hatchling) is lent to it by a .pth file, so nothing is downloaded; the plugins
    themselves go through pip, wheel and entry points like anybody's.
    """
    folder = tmp_path_factory.mktemp("stranger")
    venv.create(folder / "env", with_pip=False)
    python = folder / "env" / ("Scripts" if os.name == "nt" else "bin") / "python"
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip())
    # addsitedir, so that the .pth files of editable installs count too.
    (site / "lent.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})")
    plugins = [str(write(folder / name, name, source)) for name, source in (("acme", ACME), ("broken", BROKEN))]
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--no-build-isolation", *plugins], check=True, capture_output=True)
    return python


def run(python: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of the fresh environment."""
    return subprocess.run([python, *arguments], capture_output=True, text=True, check=False)


def test_models_lists_the_strangers_model(python: Path) -> None:
    """It appears in `rerank models` beside ours."""
    done = run(python, "-m", "rerank_core", "models", "--json")
    assert done.returncode == 0, done.stderr
    assert "acme-words" in done.stdout


def test_it_loads_and_scores(python: Path) -> None:
    """It loads by name and ranks, in Python and on the command line."""
    code = "import rerank_core as r; print(r.load('acme-words').rerank('red panda', ['a', 'red panda'])[0].index)"
    assert run(python, "-c", code).stdout.strip() == "1"
    done = subprocess.run(
        [python, "-m", "rerank_core", "rank", "red panda", "--model", "acme-words", "--json"],
        input="a panda\nthe red panda\n",
        capture_output=True,
        text=True,
        check=True,
    )
    assert [hit["text"] for hit in json.loads(done.stdout)["hits"]] == ["the red panda", "a panda"]


def test_the_broken_one_breaks_nothing_else(python: Path) -> None:
    """It is listed as failed with its reason; `rerank doctor` fails for it and names it; the other one works."""
    plugins = run(python, "-m", "rerank_core", "plugins", "--json")
    assert plugins.returncode == 0
    assert "a_library_that_is_not_there" in plugins.stdout
    doctor = run(python, "-m", "rerank_core", "doctor", "--json")
    assert doctor.returncode == 1
    assert "a_library_that_is_not_there" in doctor.stdout
