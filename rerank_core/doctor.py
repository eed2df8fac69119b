"""The checks of ``rerank doctor``: each problem that an installation can have is one `Check`.

A problem is reported in its check, never raised. torch is imported only if it is installed, to list the accelerators.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import re
import shutil
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import rerank_core
from rerank_core.errors import RerankError
from rerank_core.loading import load
from rerank_core.planning.parallel import on_devices
from rerank_core.plugins import registry
from rerank_core.plugins.discovery import DISABLE, PluginRecord
from rerank_core.plugins.isolation import is_users_interrupt
from rerank_core.plugins.registry import Registry
from rerank_core.reranker import Reranker

__all__ = ["Check", "examine"]

_QUERY = "What do giant pandas eat?"
_RELEVANT = "Giant pandas eat almost nothing but bamboo: its leaves, stems and shoots."
_IRRELEVANT = "The city council will vote on the new parking fees next Tuesday."

_PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "numpy")
_HUB_VARIABLES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_ENDPOINT", "MODELSCOPE_ENDPOINT")


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Attributes:
        name: the subject of the check.
        status: ``ok``; ``warn`` for a problem that may be intended or affects only some models; ``fail`` otherwise.
        detail: the result, in words.
        fix: how to solve the problem; empty if there is none.
    """

    name: str
    status: Literal["ok", "warn", "fail"]
    detail: str
    fix: str = ""

    def to_dict(self) -> dict[str, str]:
        """Plain data for JSON."""
        return asdict(self)


def examine(model: str | None = None, known: Registry | None = None) -> list[Check]:
    """Check the installation and, if a model is named, load it and rank with it.

    Args:
        model: name, hub id or directory of a model.
        known: the registry of plugins to check; by default that of this process.
    """
    known = registry.default() if known is None else known
    checks = [*_system(), *_packages(), _accelerator(), *_plugins(known), *_names(known), _cache(), *_settings(known)]
    if model is not None:
        checks.extend(_model(model))
    return checks


# ---------------------------------------------------------------------- the machine and its packages
def _system() -> Iterator[Check]:
    yield Check("python", "ok", f"{platform.python_version()} at {sys.executable}")
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Check("platform", "ok", f"{platform.platform()}, {usable} CPU cores")
    installed = _version("rerank-core")
    if installed == rerank_core.__version__:
        yield Check("rerank-core", "ok", installed)
        return
    found = (
        f"the code is {rerank_core.__version__}, and the installed distribution is {installed or 'missing'}; "
        "plugins are found only through installed distributions"
    )
    yield Check("rerank-core", "warn", found, "pip install --upgrade rerank-core")


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _packages() -> Iterator[Check]:
    minimum_versions = _minimum_versions()
    for name in _PACKAGES:
        version, minimum = _version(name), minimum_versions.get(name, "")
        if version is None:
            fix = "pip install 'rerank-core[torch]'"
            yield Check(name, "warn", "not installed; models that run weights need it", fix)
        elif minimum and _numbers(version) < _numbers(minimum):
            fix = f"pip install --upgrade '{name}>={minimum}'"
            yield Check(name, "warn", f"{version} is too old; rerank-core[torch] needs at least {minimum}", fix)
        else:
            yield Check(name, "ok", version)


def _minimum_versions() -> dict[str, str]:
    """Minimum version of each package in the ``torch`` extra of rerank-core."""
    try:
        requirements = importlib.metadata.requires("rerank-core") or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    matches = (re.match(r"([\w-]+)\s*>=\s*([\d.]+).*extra == ['\"]torch['\"]", line) for line in requirements)
    return {match[1]: match[2] for match in matches if match}


def _numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version, for comparison with a minimum version.

    >>> _numbers("2.13.0+cpu")
    (2, 13, 0)
    """
    match = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, match[0].split("."))) if match else ()


def _accelerator() -> Check:
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch: Any = importlib.import_module("torch")
            detail = _devices(torch)
    except ImportError as error:
        if error.name == "torch":
            return Check("accelerator", "warn", "unknown without torch", "pip install 'rerank-core[torch]'")
        return _torch_is_broken(error)
    except OSError as error:  # a shared library of torch that is missing or does not fit
        return _torch_is_broken(error)
    if detail is not None:
        return Check("accelerator", "ok", detail)
    detail = f"none; CPU, {torch.get_num_threads()} threads"
    if shutil.which("nvidia-smi") and torch.version.cuda is None:
        return Check(
            "accelerator",
            "warn",
            f"{detail}. This machine has an NVIDIA driver, but torch {torch.__version__} is built without CUDA",
            "install the CUDA build of torch, see https://pytorch.org/get-started/locally",
        )
    if caught:
        return Check(
            "accelerator",
            "warn",
            f"{detail}. torch says: {caught[-1].message}",
            "check the driver if this machine has a GPU",
        )
    return Check("accelerator", "ok", detail)


def _devices(torch: Any) -> str | None:
    """The accelerators that torch can use; None if there are none."""
    if torch.cuda.is_available():
        devices = enumerate(map(torch.cuda.get_device_properties, range(torch.cuda.device_count())))
        return ", ".join(f"cuda:{n} {device.name} ({device.total_memory / 2**30:.0f} GiB)" for n, device in devices)
    return "mps (Apple GPU)" if torch.backends.mps.is_available() else None


def _torch_is_broken(error: Exception) -> Check:
    return Check(
        "accelerator",
        "fail",
        f"torch is installed but cannot be imported: {type(error).__name__}: {error}",
        "pip install --force-reinstall torch",
    )


# ---------------------------------------------------------------------- plugins and their names
def _plugins(known: Registry) -> Iterator[Check]:
    if not known.plugins:
        yield Check("plugins", "warn", "none is installed, so no model name is known", "pip install rerank-mini")
    for plugin in known.plugins:
        yield _plugin(plugin)


def _plugin(plugin: PluginRecord) -> Check:
    name = f"plugin {plugin.name}"
    source = f"{plugin.distribution} {plugin.version}"
    if plugin.status == "ok":
        count = len(plugin.models)
        return Check(name, "ok", f"{source}, {count} model{'' if count == 1 else 's'}")
    if plugin.status == "disabled":
        return Check(name, "warn", f"{source}, {plugin.error}", f"remove {plugin.name} from {DISABLE}")
    upgrade = "" if plugin.distribution == "unknown" else f"pip install --upgrade {plugin.distribution}, or "
    tail = "\n".join(plugin.traceback.strip().splitlines()[-6:])
    return Check(
        name,
        "fail",
        f"{source}, {plugin.status}: {plugin.error}" + (f"\n{tail}" if tail else ""),
        f"{upgrade}disable it with {DISABLE}={plugin.name}",
    )


def _names(known: Registry) -> Iterator[Check]:
    conflicts = known.conflicts()
    for name, plugins in conflicts.items():
        alternatives = " or ".join(f"{plugin}:{name}" for plugin in plugins)
        detail = f"registered by {', '.join(plugins)}"
        yield Check(f"name {name}", "warn", detail, f"load one of them by its full name: {alternatives}")
    if not conflicts:
        yield Check("names", "ok", "no name is registered twice")


# ---------------------------------------------------------------------- the hub and the environment
def _cache() -> Check:
    path = _cache_directory()
    existing = next(folder for folder in (path, *path.parents) if os.path.exists(folder))
    note = "" if existing == path else " (not created yet)"
    detail = f"{path}{note}, {shutil.disk_usage(existing).free / 1e9:.0f} GB free"
    if existing.is_dir() and os.access(existing, os.W_OK):
        return Check("hub cache", "ok", detail)
    return Check("hub cache", "warn", f"{detail}; it is not writable", "set HF_HUB_CACHE to a writable folder")


def _cache_directory() -> Path:
    """The folder where huggingface_hub stores downloads."""
    home = os.environ.get("HF_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    variables = ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE")
    configured = next((os.environ[name] for name in variables if os.environ.get(name)), os.path.join(home, "hub"))
    return Path(os.path.expanduser(configured)).absolute()


def _settings(known: Registry) -> Iterator[Check]:
    settings = {name: os.environ[name] for name in _HUB_VARIABLES if name in os.environ}
    values = ", ".join(f"{name}={value}" for name, value in settings.items())
    endpoint = settings.get("HF_ENDPOINT", "https://")
    is_url = endpoint.startswith(("https://", "http://"))
    fix = "" if is_url else f"HF_ENDPOINT is no URL: set HF_ENDPOINT=https://{endpoint or 'huggingface.co'}"
    yield Check("hub settings", "ok" if is_url else "warn", values or f"none of {', '.join(_HUB_VARIABLES)}", fix)
    disabled = [name.strip() for name in os.environ.get(DISABLE, "").split(",") if name.strip()]
    installed = {name for plugin in known.plugins for name in (plugin.name, plugin.distribution)}
    if unknown := [name for name in disabled if name not in installed]:
        detail = f"names plugins that are not installed: {', '.join(unknown)}"
        available = ", ".join(sorted(plugin.name for plugin in known.plugins))
        yield Check(DISABLE, "warn", detail, f"the installed plugins are {available}")
    else:
        yield Check(DISABLE, "ok", ", ".join(disabled) or "not set")


# ---------------------------------------------------------------------- one model
def _model(name: str) -> Iterator[Check]:
    loading, ranking, started = f"load {name}", f"rank with {name}", time.perf_counter()
    try:
        reranker = load(name)
    except BaseException as error:  # noqa: BLE001 - any error is reported as a failed check
        yield _failure(loading, error)
        return
    with reranker:
        spec, seconds = reranker.spec, time.perf_counter() - started
        where = f"{spec.name} from {spec.checkpoint or spec.scorer}{on_devices(reranker.scorer)}"
        yield Check(loading, "ok", f"{where} in {seconds:.1f} s")
        for step, check in ((ranking, _rank), ("fingerprint", lambda name, of: Check(name, "ok", of.fingerprint))):
            try:
                yield check(step, reranker)
            except BaseException as error:  # noqa: BLE001, PERF203 - as above
                yield _failure(step, error)


def _rank(name: str, reranker: Reranker) -> Check:
    # The first call includes one-time set-up, so the second is timed.
    relevant, irrelevant = reranker.rerank(_QUERY, [_RELEVANT, _IRRELEVANT]).scores()
    usage = reranker.rerank(_QUERY, [_RELEVANT, _IRRELEVANT] * 8).usage
    seconds = max(usage.seconds, 1e-9)
    speed = f"{usage.passages / seconds:.0f} documents/s"
    if usage.tokens is not None:
        speed = f"{usage.tokens / seconds:,.0f} tokens/s"
    detail = f"{relevant:.4f} for a relevant document, {irrelevant:.4f} for an irrelevant one; {speed}"
    if relevant > irrelevant:
        return Check(name, "ok", detail)
    return Check(
        name,
        "fail",
        f"{detail}. The irrelevant document does not score lower, which suggests a score head that was never trained",
        "check that the checkpoint is a trained reranker, and that it supports English",
    )


def _failure(name: str, error: BaseException) -> Check:
    if is_users_interrupt(error):
        raise error
    if isinstance(error, RerankError):
        return Check(name, "fail", f"{type(error).__name__}: {error}")
    tail = "".join(traceback.format_exception(error)).strip().splitlines()[-6:]
    return Check(name, "fail", "\n".join(tail), "this is a bug in the model's plugin or in rerank-core; report it")
