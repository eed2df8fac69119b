"""The documents say what is so: paths and links lead somewhere, and pictures show what the code and the results say."""

from __future__ import annotations

import html
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from helpers import forked
from helpers.scripts import module_of

ROOT = Path(__file__).resolve().parent.parent
READMES = [ROOT / "README.md", ROOT / "README.zh.md"]
PACKAGES = [*(ROOT / "plugins").glob("*/README.md"), ROOT / "trainers" / "README.md"]
DOCUMENTS = [*READMES, ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md"), *PACKAGES]
LINK = re.compile(r"\]\((?!https?:)([^)\s]*)\)")
CODE = re.compile(r"`([^`\s]+)`")
TOP = ("rerank_core", "trainers", "plugins", "tests", "tools", "docs", "benchmarks", "examples")


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_links_lead_somewhere(file: Path) -> None:
    """A relative link names a file that exists, and a heading of that file."""
    broken = []
    for link in LINK.findall(_prose(file)):
        path, _, anchor = link.partition("#")
        target = (file.parent / path).resolve() if path else file
        if not target.exists() or (anchor and anchor not in set(_anchors(target))):
            broken.append(link)

    assert broken == []


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_paths_of_the_maps_exist(name: str) -> None:
    """A path in backticks that begins with a folder of the repository is a file or a folder there."""
    text = _prose(ROOT / name).rpartition("## Rules")[2]  # of CONTRIBUTING.md, the part below its tables
    paths = [path for path in CODE.findall(text) if path.split("/")[0] in TOP and "/" in path]

    assert [path for path in paths if not list(ROOT.glob(path))] == []


def test_contributing_names_a_file_for_each_change() -> None:
    """In every row of "Where do I change ...?" each path exists, in the folder that its table names or in the
    repository, and the first column of files has one."""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## Rules")[0]
    rows, missing = 0, []
    for folder, table in re.findall(r"Paths are in ([^\n]*)\.\n\n(.*?)\n\n", page, re.DOTALL):
        for row in table.splitlines()[2:]:
            rows += 1
            _, files, then = row.strip("| ").split(" | ")
            paths = [path for path in CODE.findall(f"{files} {then}") if re.search(r"[./]", path)]
            found = [path for path in paths if any((base / path).exists() for base in (ROOT / folder.strip("`"), ROOT))]
            if found != paths or not CODE.search(files):
                missing.append(row)

    assert missing == []
    assert rows > 25


@pytest.mark.parametrize("file", READMES, ids=lambda file: file.name)
def test_readmes_are_short_and_alike(file: Path) -> None:
    """A README has fewer than 200 lines, and both languages have the same parts."""
    text = file.read_text(encoding="utf-8")
    kinds = [[line.split()[0] for line in _prose(one).splitlines() if line.startswith("#")] for one in READMES]

    assert len(text.splitlines()) < 200
    assert kinds[0] == kinds[1]


@pytest.mark.parametrize("file", PACKAGES, ids=lambda file: file.parent.name)
def test_package_pages_say_how_to_begin(file: Path) -> None:
    """The page that an index shows is the README, with an install line, an example and links."""
    text = file.read_text(encoding="utf-8")
    project = (file.parent / "pyproject.toml").read_text(encoding="utf-8")
    name = re.search(r'^name = "(.*)"', project, re.MULTILINE)

    assert name is not None
    assert 'readme = "README.md"' in project
    assert re.search(rf"^    pip install .*{name[1]}", text, re.MULTILINE)
    assert "```python" in text
    assert "](../" in text
    assert 30 <= len(text.splitlines()) <= 65


def test_the_chart_is_what_the_results_say(tool_of: Tools) -> None:
    """Names and numbers of docs/images/speed.svg are those of benchmarks/results; `make pictures` draws it again."""
    chart = tool_of("speed_chart")

    assert _texts(chart.PICTURE) == chart.texts(chart.panels())


def test_a_library_with_other_scores_is_not_in_the_chart(tool_of: Tools) -> None:
    """A ratio counts only between equal scores; what failed has none."""
    chart = tool_of("speed_chart")
    engines = {
        "ours": {"ratio": 1.0, "drift": None},
        "openvino": {"ratio": 1.234, "drift": 1e-6},
        "rerankers": {"ratio": 4.56, "drift": None},
        "flagembedding": {"ratio": 6.0, "drift": 0.09},
        "bcembedding": {"error": "ended with 1"},
    }
    bars = chart.panel("title", engines)

    assert chart.texts([bars]) == ["title", "rerankers", "4.6 ×", "OpenVINO", "1.23 ×", "rerank-core", "1.00 ×"]


def test_the_terminal_shows_what_the_command_prints(tool_of: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/images/rank.svg has the words of a run of `rerank rank`, and its scores; seconds differ."""
    picture = tool_of("terminal_picture")
    if sys.platform == "linux":
        monkeypatch.setattr(picture.subprocess, "Popen", forked.OnTerminal)
    shown = "".join(_texts(picture.PICTURE)).partition("--top-k3")[2]
    run = re.sub(r"\x1b\[[0-9;]*m|\s", "", picture.capture())
    number = re.compile(r"\d+\.\d+")

    assert number.sub("#", run) == number.sub("#", shown)
    scores = [[float(score) for score in number.findall(text)[:3]] for text in (run, shown)]
    assert scores[0] == pytest.approx(scores[1], abs=2e-3)


class Tools:
    """Modules of tools/ by name."""

    def __call__(self, name: str) -> ModuleType:
        return module_of(ROOT / "tools" / f"{name}.py")


@pytest.fixture
def tool_of(monkeypatch: pytest.MonkeyPatch) -> Tools:
    """Modules of tools/, which import each other by their bare names."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    monkeypatch.delitem(sys.modules, "tables.gpu", raising=False)
    return Tools()


def _prose(file: Path) -> str:
    """A document without its fenced code."""
    return re.sub(r"^```.*?^```", "", file.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def _anchors(file: Path) -> Iterator[str]:
    """The anchors that GitHub gives to headings."""
    for heading in re.findall(r"^#+ (.*)", _prose(file), re.MULTILINE):
        yield re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def _texts(picture: Path) -> list[str]:
    """Texts of an SVG in their order; a terminal's lines without blanks."""
    svg = picture.read_text(encoding="utf-8")
    texts = [html.unescape(text) for text in re.findall(r"<text[^>]*>([^<]*)</text>", svg)]
    return [re.sub(r"\s", "", text) for text in texts] if "rich-terminal" in svg else texts
