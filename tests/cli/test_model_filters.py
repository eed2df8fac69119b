"""The filters of ``rerank models``, and what it says of licences."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import rerank_core
from helpers.plugin_factory import install
from rerank_core import Head, ModelSpec
from rerank_core.cli import app
from rerank_core.plugins import registry
from rerank_core.plugins.discovery import PluginRecord
from rerank_core.plugins.registry import Registry

SPECS = (
    ModelSpec("plain", head=Head.classifier(), languages=("en",), license="MIT", parameters=22_700_000),
    ModelSpec(
        "reads-chinese",
        head=Head.classifier(),
        languages=("zh", "en"),
        license="Apache-2.0",
        parameters=600_000_000,
    ),
    ModelSpec(
        "not-to-sell",
        checkpoint="acme/NotToSell-v2",
        head=Head.classifier(),
        languages=("multilingual",),
        license="CC-BY-NC-4.0",
        parameters=1_540_000_000,
        description="a listwise wonder",
    ),
    ModelSpec("unmeasured", head=Head.classifier(), license="Apache-2.0"),
)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the plugin with the models above."""
    plugin = PluginRecord("acme", "rerank-acme", "1.0", "acme", models=SPECS)
    monkeypatch.setattr(registry, "default", lambda: Registry([plugin]))


def rerank(*arguments: str) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(app, list(arguments), prog_name="rerank")


def names(*arguments: str) -> list[str]:
    """The names that the command lists."""
    data: dict[str, Any] = json.loads(rerank("models", "--json", *arguments).stdout)
    return [model["name"] for model in data["models"]]


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("arguments", "listed"),
    [
        (["--search", "chinese"], ["reads-chinese"]),
        (["--search", "acme wonder"], ["not-to-sell"]),  # words of the hub id and of the description
        (["--search", "NOTTOSELL"], ["not-to-sell"]),
        (["--language", "zh"], ["not-to-sell", "reads-chinese"]),
        (["--language", "en"], ["not-to-sell", "plain", "reads-chinese"]),
        (["--license", "apache"], ["reads-chinese", "unmeasured"]),
        (["--commercial"], ["plain", "reads-chinese", "unmeasured"]),
        (["--max-size", "600M"], ["plain", "reads-chinese"]),
        (["--max-size", "0.6b", "--language", "zh"], ["reads-chinese"]),
        (["--search", "no such model"], []),
    ],
)
def test_a_model_must_pass_every_filter(arguments: list[str], listed: list[str]) -> None:
    """Filters are combined; a model of unknown size passes no limit of the size."""
    assert names(*arguments) == listed


@pytest.mark.usefixtures("installed")
def test_sizes_and_licences_are_in_the_table() -> None:
    """The number of weights has three digits, and a licence that forbids commercial use says so."""
    table = rerank("models").stdout

    assert "22.7M" in table
    assert "1.54B" in table
    assert "CC-BY-NC-4.0 (non-commercial)" in table
    assert table.count("non-commercial") == 1


@pytest.mark.usefixtures("installed")
def test_wrong_filters_are_told() -> None:
    """A size that is no number, filters beside a name, and filters that nothing passes."""
    assert "'big' is no number of weights like 600M or 1.5B" in rerank("models", "--max-size", "big").stderr
    assert rerank("models", "plain", "--commercial").exit_code == 2
    assert "none of the 4 installed models passes" in rerank("models", "--search", "nothing").stderr


def test_a_licence_that_forbids_commercial_use_is_logged_once(
    tmp_path: Path, discover: Callable[[], Registry], caplog: pytest.LogCaptureFixture
) -> None:
    """The first load of a process says it; other licences are not mentioned."""
    install(tmp_path, "acme", more=', license="CC-BY-NC-4.0"')
    install(tmp_path, "open", model="open-small", more=', license="MIT"')
    discover()
    for name in ("acme-small", "acme-small", "open-small"):
        rerank_core.load(name)

    assert caplog.messages == [
        "the weights of 'acme-small' have the licence CC-BY-NC-4.0, which allows no commercial use"
    ]
