"""Plugins are found, kept apart, and named when they fail; names match exactly or fail with help."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import rerank_core
from helpers.plugin_factory import install
from rerank_core import DuplicateModelError, InputError, MissingDependencyError, UnknownModelError
from rerank_core.plugins.discovery import DISABLE, PluginRecord
from rerank_core.plugins.registry import Registry

Discover = Callable[[], Registry]


def record(found: Registry, name: str) -> PluginRecord:
    """The record of one plugin."""
    return next(plugin for plugin in found.plugins if plugin.name == name)


def test_plugin_is_found_and_its_model_scores(tmp_path: Path, discover: Discover) -> None:
    """A distribution with one module and one entry point is all it takes."""
    install(tmp_path, "acme", more=', aliases=("Acme/Small",)')
    found = record(discover(), "acme")

    assert (found.status, found.distribution, found.version) == ("ok", "rerank_acme", "1.2")
    for name in ("acme-small", "Acme/Small", "acme:acme-small"):
        ranking = rerank_core.load(name).rerank("panda", ["tea", "panda"])
        assert [hit.index for hit in ranking] == [1, 0]


@pytest.mark.parametrize(
    ("code", "status", "said"),
    [
        ("import no_such_thing", "failed", "no_such_thing"),
        ("raise RuntimeError('boom')", "failed", "boom"),
        ("import sys; sys.exit(3)", "failed", "SystemExit"),
        ("this is no Python", "failed", "SyntaxError"),
        ("class Panic(BaseException): ...\nraise Panic('native')", "failed", "native"),
        ("class Odd(Exception):\n  def __str__(self): raise ValueError\nraise Odd", "failed", "Odd"),
        ("x = 1", "invalid", "hookimpl missing"),
        ("def rerank_register_models(register): ...", "invalid", "hookimpl missing"),
        ("RERANK_API_VERSION = 99", "incompatible", "99"),
        ("from rerank_core import hookimpl\n@hookimpl\ndef rerank_register_modles(register): ...", "invalid", "modles"),
        ("from rerank_core import hookimpl\n@hookimpl\ndef rerank_register_models(reg): ...", "invalid", "reg"),
        (
            "from rerank_core import hookimpl\n@hookimpl\ndef rerank_register_models(register): register('acme')",
            "invalid",
            "ModelSpec",
        ),
        (
            """
            from rerank_core import hookimpl, ModelSpec
            @hookimpl
            def rerank_register_models(register): register(ModelSpec(name='Bad Name', scorer='x:y'))
            """,
            "invalid",
            "kebab",
        ),
        (
            """
            from rerank_core import hookimpl, ModelSpec
            @hookimpl
            def rerank_register_models(register):
                register(ModelSpec(name='a', scorer='x:y')); register(ModelSpec(name='a', scorer='x:y'))
            """,
            "invalid",
            "twice",
        ),
    ],
)
def test_broken_plugin_breaks_only_itself(
    tmp_path: Path, discover: Discover, code: str, status: str, said: str
) -> None:
    """Whatever is wrong with a plugin is recorded with its reason, and its neighbour works."""
    install(tmp_path, "broken", code)
    install(tmp_path, "acme")
    found = discover()

    assert record(found, "broken").status == status
    assert said in record(found, "broken").error
    assert record(found, "broken").traceback
    assert found.resolve("acme-small").name == "acme-small"
    with pytest.raises(UnknownModelError, match="broken"):
        found.resolve("broken-model")


def test_two_claims_on_a_name_are_named_and_resolved_by_prefix(tmp_path: Path, discover: Discover) -> None:
    """A contested name is an error that names both plugins; ``plugin:name`` decides."""
    install(tmp_path, "acme", more=', description="one"')
    install(tmp_path, "zeta", more=', description="two"')
    found = discover()

    with pytest.raises(DuplicateModelError, match=r"acme:acme-small.*zeta:acme-small"):
        found.resolve("acme-small")
    assert found.resolve("zeta:acme-small").description == "two"
    assert found.conflicts() == {"acme-small": ["acme", "zeta"]}


def test_same_distribution_twice_on_the_path_is_one_plugin(tmp_path: Path, discover: Discover) -> None:
    """An editable install beside a wheel is no conflict; the first on the path counts."""
    install(tmp_path / "first", "acme", dist="rerank-acme")
    install(tmp_path / "second", "acme", dist="rerank_acme")
    for folder in ("second", "first"):
        sys.path.insert(0, str(tmp_path / folder))
    try:
        assert [plugin.name for plugin in discover().plugins].count("acme") == 1
        assert discover().conflicts() == {}
    finally:
        del sys.path[:2]


@pytest.mark.parametrize("aliases", ["('mini:mini',)", "('a/b/c',)", "('',)", "'acme-x'", "(1,)"])
def test_aliases_cannot_take_what_is_not_theirs(tmp_path: Path, discover: Discover, aliases: str) -> None:
    """An alias is a name or a hub id: no colon that would answer for another plugin, no path, no bare string."""
    install(tmp_path, "acme", more=f", aliases={aliases}")
    assert "alias" in record(discover(), "acme").error


def test_distributions_tell_plugins_of_one_name_apart(tmp_path: Path, discover: Discover) -> None:
    """Where two distributions call their entry point alike, the distribution's name stands before the colon."""
    for dist in ("acme-one", "acme-two"):
        install(tmp_path / dist, "acme", more=f', description="{dist}"', dist=dist)
        sys.path.insert(0, str(tmp_path / dist))
    try:
        found = discover()
        with pytest.raises(DuplicateModelError, match=r"acme-(one|two):acme-small or acme-(one|two):acme-small"):
            found.resolve("acme-small")
        assert found.resolve("acme-one:acme-small").name == "acme-small"
    finally:
        del sys.path[:2]


def test_registering_late_is_an_error(tmp_path: Path, discover: Discover) -> None:
    """A plugin that keeps `register` and calls it afterwards is told, instead of its model being lost."""
    code = """
    from rerank_core import hookimpl
    kept = []
    @hookimpl
    def rerank_register_models(register): kept.append(register)
    """
    install(tmp_path, "acme", code)
    assert record(discover(), "acme").status == "ok"
    with pytest.raises(rerank_core.PluginLoadError, match="inside the hook"):
        sys.modules["rerank_acme"].kept[0](None)


@pytest.mark.parametrize(("factory", "said"), [("rerank_acme:nope", "nope"), ("rerank_acme:boom", "ZeroDivision")])
def test_factories_that_fail_name_their_model(tmp_path: Path, discover: Discover, factory: str, said: str) -> None:
    """A factory that is not there or raises is a PluginError that names model and factory."""
    code = f"""
    from rerank_core import ModelSpec, hookimpl
    @hookimpl
    def rerank_register_models(register): register(ModelSpec(name="acme-small", scorer="{factory}"))
    def boom(spec, options): return 1 / 0
    """
    install(tmp_path, "acme", code)
    with pytest.raises(rerank_core.PluginError, match=said):
        rerank_core.load("acme-small")


@pytest.mark.parametrize("value", ["acme", "other, acme ,", "rerank_acme", "Rerank-Acme", "ACME"])
def test_plugins_can_be_switched_off(
    tmp_path: Path, discover: Discover, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    """RERANK_DISABLE_PLUGINS lists entry points or distributions; the refusal says that it did so."""
    install(tmp_path, "acme")
    monkeypatch.setenv(DISABLE, value)
    found = discover()

    assert record(found, "acme").status == "disabled"
    with pytest.raises(UnknownModelError, match="switches off: acme"):
        found.resolve("acme-small")


@pytest.mark.parametrize("name", ["acme", "small", "acme-smal", "ACME-SMALL", "acme-small ", "my-acme-small"])
def test_names_never_match_in_part(tmp_path: Path, discover: Discover, name: str) -> None:
    """A substring, a misspelling or another case is an UnknownModelError, with the near match where there is one."""
    install(tmp_path, "acme")
    with pytest.raises(UnknownModelError) as caught:
        discover().resolve(name)

    assert ("Did you mean acme-small" in str(caught.value)) == (name != "acme")


def test_first_party_names_come_with_their_install_line() -> None:
    """Without the plugin, its model's name (or hub id) fails with the pip line that brings it."""
    empty = Registry([])
    with pytest.raises(UnknownModelError, match="pip install rerank-bge"):
        empty.resolve("bge-reranker-v2-m3")
    with pytest.raises(UnknownModelError, match="pip install rerank-bge"):
        empty.resolve("BAAI/bge-reranker-large")
    with pytest.raises(UnknownModelError, match=r"bge-reranker-v2-m3 \(pip install rerank-bge\)"):
        empty.resolve("bge-reranker-v2m3")


def test_scorer_with_a_missing_package_says_which(tmp_path: Path, discover: Discover) -> None:
    """A plugin whose scorer needs something that is not installed is a MissingDependencyError."""
    install(
        tmp_path,
        "acme",
        """
        from rerank_core import ModelSpec, hookimpl

        @hookimpl
        def rerank_register_models(register):
            register(ModelSpec(name="acme-small", scorer="rerank_acme:make"))

        def make(spec, options):
            import no_such_client
        """,
    )
    with pytest.raises(MissingDependencyError, match="no_such_client"):
        rerank_core.load("acme-small")


def test_options_of_a_model_are_typed_closed_and_passed_on(tmp_path: Path, discover: Discover) -> None:
    """A model's own options reach its factory with their defaults; others, and wrong types, are refused."""
    install(
        tmp_path,
        "acme",
        """
        from rerank_core import ModelOption, ModelSpec, hookimpl

        @hookimpl
        def rerank_register_models(register):
            register(ModelSpec(name="acme-small", scorer="rerank_acme:Scorer", options=(
                ModelOption("layer", "int", "how deep", default=8, choices=(8, 16)),)))

        class Scorer:
            def __init__(self, spec, options):
                self.layer = options.model["layer"]
            def score(self, query, docs):
                return [float(self.layer)] * len(docs)
        """,
    )
    assert rerank_core.load("acme-small").score([("q", "d")]) == [8.0]
    assert rerank_core.load("acme-small", layer=16).score([("q", "d")]) == [16.0]
    for bad in ({"layer": "16"}, {"layer": 9}, {"layer": True}):
        with pytest.raises(InputError, match="layer"):
            rerank_core.load("acme-small", **bad)
    with pytest.raises(InputError, match=r"unknown option 'lyer'.*Did you mean 'layer'.*device"):
        rerank_core.load("acme-small", lyer=8)


def test_models_lists_every_plugin_that_works(tmp_path: Path, discover: Discover) -> None:
    """`rerank_core.models()` is sorted by name and does not hide a contested name."""
    install(tmp_path, "acme")
    install(tmp_path, "zeta")
    names = [spec.name for spec in rerank_core.models()]

    assert names == sorted(names)
    assert names.count("acme-small") == 2
