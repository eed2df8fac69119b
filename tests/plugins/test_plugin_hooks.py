"""What a plugin can do beside registering models: open what stands behind its name, know a checkpoint by its files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import rerank_core
from helpers.plugin_factory import install
from rerank_core import CheckpointError, DuplicateModelError, Head, ModelSpec, UnknownModelError, write_spec
from rerank_core.plugins.registry import Registry

Discover = Callable[[], Registry]


OPENS = """
    from rerank_core import ModelSpec, hookimpl

    @hookimpl
    def rerank_open_model(source):
        if source == "none":
            return None
        if source == "broken":
            raise TypeError("oh")
        return 7 if source == "odd" else ModelSpec(name="opened", checkpoint=source, scorer="rerank_any:make")
"""


def test_a_plugin_opens_what_stands_behind_its_name(tmp_path: Path, discover: Discover) -> None:
    """Only the plugin that is named is asked, and its faults carry its name."""
    install(tmp_path, "any", OPENS)
    install(tmp_path, "other")
    registry = discover()
    assert registry.resolve("any:owner/name:tag").checkpoint == "owner/name:tag"
    for name in ("any:none", "other:owner/name", "any:"):
        with pytest.raises(UnknownModelError):
            registry.resolve(name)
    with pytest.raises(rerank_core.PluginError, match="'any' could not open 'broken': TypeError: oh"):
        registry.resolve("any:broken")
    with pytest.raises(rerank_core.PluginError, match="no ModelSpec"):
        registry.resolve("any:odd")


MATCHES = """
    from rerank_core import ModelSpec, hookimpl

    @hookimpl
    def rerank_match_checkpoint(directory):
        if (directory / "broken").exists():
            raise KeyError("oh")
        if (directory / "acme.json").exists():
            return ModelSpec(name="matched", scorer="rerank_{name}:make")
"""


def test_a_plugin_knows_a_checkpoint_by_its_files(tmp_path: Path, discover: Discover) -> None:
    """Every plugin is asked for a folder without reranker.json; two that claim it are named, and so are faults."""
    install(tmp_path, "one", MATCHES.replace("{name}", "one"))
    registry = discover()
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    with pytest.raises(CheckpointError, match=r"neither reranker.json nor config.json"):
        registry.resolve(str(folder))
    (folder / "acme.json").touch()
    assert registry.resolve(str(folder)).name == "matched"
    assert registry.resolve(str(folder)).checkpoint == str(folder.resolve())

    install(tmp_path, "two", MATCHES.replace("{name}", "two"))
    with pytest.raises(DuplicateModelError, match=r"one, two.*checkpoint="):
        discover().resolve(str(folder))
    (folder / "broken").touch()
    with pytest.raises(CheckpointError, match=r"neither .*'one' could not open .*KeyError"):
        registry.resolve(str(folder))
    write_spec(ModelSpec(name="own", head=Head.classifier()), folder)
    assert registry.resolve(str(folder)).name == "own", "a folder that describes itself is not asked about"
