"""`rerank doctor` finds what is wrong with an installation and says how to mend it; it never crashes on it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import rerank_core
from helpers.plugin_factory import install
from rerank_core import Head, ModelSpec
from rerank_core.cli import app
from rerank_core.doctor import Check, examine
from rerank_core.plugins import registry
from rerank_core.plugins.discovery import PluginRecord
from rerank_core.plugins.registry import Registry


def checks(*plugins: PluginRecord) -> dict[str, Check]:
    """The findings by name, for these plugins."""
    return {check.name: check for check in examine(known=Registry(plugins))}


def plugin(name: str, **facts: Any) -> PluginRecord:
    """A record as discovery writes it, with one model named ``shared``."""
    spec = ModelSpec(name="shared", head=Head.classifier(), description=name)
    return replace(PluginRecord(name, f"rerank-{name}", "1.0", name, models=(spec,)), **facts)


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose plugins are found by the next question to the registry."""
    monkeypatch.syspath_prepend(tmp_path)
    registry.default.cache_clear()
    yield tmp_path
    registry.default.cache_clear()
    sys.modules.pop("rerank_acme", None)


def test_healthy_installation() -> None:
    """What the repository's own environment has is all ok, with its version."""
    found = {check.name: check for check in examine()}

    for name in ("python", "rerank-core", "torch", "transformers", "tokenizers", "safetensors", "numpy", "plugin mini"):
        assert found[name].status == "ok", found[name]
    assert found["rerank-core"].detail == rerank_core.__version__


def test_plugins_are_reported() -> None:
    """A broken plugin fails with the end of its traceback, a disabled one warns, and a fix names what to do."""
    found = checks(
        plugin("good"),
        plugin(
            "bad",
            status="failed",
            error="ImportError: no foo",
            traceback="Traceback\n  x\nImportError: no foo",
            models=(),
        ),
        plugin("off", status="disabled", error="switched off by RERANK_DISABLE_PLUGINS", models=()),
    )

    assert (found["plugin good"].status, found["plugin good"].detail) == ("ok", "rerank-good 1.0, 1 model")
    assert found["plugin bad"].status == "fail"
    assert found["plugin bad"].detail.endswith("Traceback\n  x\nImportError: no foo")
    assert "RERANK_DISABLE_PLUGINS=bad" in found["plugin bad"].fix
    assert found["plugin off"].status == "warn"


def test_contested_names_are_reported() -> None:
    """A name that two plugins claim warns with the two ways to write it; with none claimed twice that is said."""
    found = checks(plugin("a"), plugin("b"))

    assert found["name shared"].status == "warn"
    assert found["name shared"].fix.endswith("a:shared or b:shared")
    assert checks(plugin("a"))["names"].status == "ok"


def test_no_plugin_at_all() -> None:
    """Without any plugin the doctor says how to get a first one."""
    assert checks()["plugins"].fix == "pip install rerank-mini"


def test_missing_and_old_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package older than the torch extra asks for warns with the line that upgrades it."""
    info = tmp_path / "transformers-4.40.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: transformers\nVersion: 4.40.0\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    check = checks()["transformers"]

    assert check.status == "warn"
    assert "4.40.0 is too old" in check.detail
    assert check.fix.startswith("pip install --upgrade 'transformers>=")


@pytest.mark.parametrize(
    ("code", "status", "said"),
    [
        ("raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')", "warn", "unknown without torch"),
        ("raise ImportError('libcudart.so.12: cannot open shared object file')", "fail", "libcudart.so.12"),
        ("raise OSError('libtorch.so: undefined symbol')", "fail", "undefined symbol"),
    ],
)
def test_torch_that_is_missing_or_broken(code: str, status: str, said: str, tmp_path: Path) -> None:
    """A torch that cannot be imported is a finding, not a crash."""
    (tmp_path / "torch.py").write_text(code, encoding="utf-8")
    script = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from rerank_core.doctor import examine; from rerank_core.plugins.registry import Registry\n"
        "import json; print(json.dumps([check.to_dict() for check in examine(known=Registry([]))]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    check = next(check for check in json.loads(done.stdout) if check["name"] == "accelerator")

    assert check["status"] == status
    assert said in check["detail"]


def test_hub_cache_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache folder is the one huggingface_hub would use; one that cannot be a folder warns."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert str(tmp_path / "huggingface" / "hub") in checks()["hub cache"].detail
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    assert f"{tmp_path / 'home' / 'hub'} (not created yet)" in checks()["hub cache"].detail
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "file"))

    assert checks()["hub cache"].status == "warn"


def test_environment_variables_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Offline switches are shown, and a plugin that is disabled without being installed warns."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example")
    monkeypatch.setenv("RERANK_DISABLE_PLUGINS", "a, typo")
    found = checks(plugin("a"))

    assert found["hub settings"].status == "ok"
    assert "HF_HUB_OFFLINE=1, HF_ENDPOINT=https://mirror.example" in found["hub settings"].detail
    assert found["RERANK_DISABLE_PLUGINS"].status == "warn"
    assert "typo" in found["RERANK_DISABLE_PLUGINS"].detail


def test_an_endpoint_without_a_scheme_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    """HF_ENDPOINT=mirror.example fails at the first download, so the doctor gives the URL."""
    monkeypatch.setenv("HF_ENDPOINT", "mirror.example")
    check = checks()["hub settings"]

    assert check.status == "warn"
    assert check.fix == "HF_ENDPOINT is no URL: set HF_ENDPOINT=https://mirror.example"


def test_model_is_loaded_and_tried() -> None:
    """With a model the doctor loads it, ranks with it, and exits with 0 where all is well."""
    result = CliRunner().invoke(app, ["doctor", "mini", "--json"])
    data = json.loads(result.stdout)
    found = {check["name"]: check for check in data["checks"]}

    assert (result.exit_code, data["schema_version"], data["ok"]) == (0, 1, True)
    assert found["load mini"]["status"] == found["rank with mini"]["status"] == "ok"
    assert " on c" in found["load mini"]["detail"]  # cpu or cuda
    assert "tokens/s" in found["rank with mini"]["detail"]


@pytest.mark.parametrize(
    ("scorer", "name", "said"),
    [
        ("lambda query, docs: [1.0] * len(docs)", "rank with acme-small", "never trained"),
        ("lambda query, docs: [float('nan')] * len(docs)", "rank with acme-small", "NonFiniteScoreError"),
        ("lambda query, docs: 1 / 0", "rank with acme-small", "ZeroDivisionError"),
        (None, "load acme-small", "RuntimeError: no key"),
    ],
)
def test_model_that_fails_is_a_finding(scorer: str | None, name: str, said: str, fresh: Path) -> None:
    """A model that cannot be loaded, crashes or ranks nonsense is a failed check and exit code 1, never a traceback."""
    make = (
        "raise RuntimeError('no key')"
        if scorer is None
        else f"return type('S', (), {{'score': staticmethod({scorer})}})()"
    )
    code = (
        "from rerank_core import ModelSpec, hookimpl\n"
        "@hookimpl\n"
        "def rerank_register_models(register):\n"
        "    register(ModelSpec(name='acme-small', scorer='rerank_acme:make'))\n"
        f"def make(spec, options):\n    {make}\n"
    )
    install(fresh, "acme", code)
    result = CliRunner().invoke(app, ["doctor", "acme-small", "--json"])
    data = json.loads(result.stdout)
    found = {check["name"]: check for check in data["checks"]}

    assert (result.exit_code, result.stderr, data["ok"]) == (1, "", False)
    assert found[name]["status"] == "fail"
    assert said in found[name]["detail"]


def test_unknown_model_is_a_finding() -> None:
    """The typed error's message is the finding."""
    result = CliRunner().invoke(app, ["doctor", "nope", "--json"])
    check = json.loads(result.stdout)["checks"][-1]

    assert (result.exit_code, check["name"], check["status"]) == (1, "load nope", "fail")
    assert check["detail"].startswith("UnknownModelError: no installed plugin has a model named 'nope'")
