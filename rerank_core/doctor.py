"""What ``rerank doctor`` looks at, as data: one `Check` for each thing that can be wrong with an installation.

Nothing here raises for what it finds. torch is imported only to ask it for accelerators, and only if it is there.
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
_HUB_VARIABLES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_ENDPOINT")


@dataclass(frozen=True)
class Check:
    """One finding.

    Attributes:
        status: ``ok``; ``warn`` for what may be meant so or hurts only some models; ``fail`` for what is broken.
        fix: what to do about it; empty where nothing has to be done.
    """

    name: str
    status: Literal["ok", "warn", "fail"]
    detail: str
    fix: str = ""

    def to_dict(self) -> dict[str, str]:
        """Plain data for JSON."""
        return asdict(self)


def examine(model: str | None = None, known: Registry | None = None) -> list[Check]:
    """Check the installation and, where a model is named, load it and rank with it.

    Args:
        known: the plugins to look at; by default those of this process.
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
    else:
        yield Check(
            "rerank-core",
            "warn",
            f"the code is {rerank_core.__version__}, and the installed distribution is {installed or 'missing'}; "
            "plugins are found only through what is installed",
            "pip install --upgrade rerank-core",
        )


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _packages() -> Iterator[Check]:
    least = _least_versions()
    for name in _PACKAGES:
        version, wanted = _version(name), least.get(name, "")
        if version is None:
            yield Check(
                name,
                "warn",
                "not installed; models that run weights need it",
                "pip install 'rerank-core[torch]'",
            )
        elif wanted and _numbers(version) < _numbers(wanted):
            fix = f"pip install --upgrade '{name}>={wanted}'"
            yield Check(name, "warn", f"{version} is too old; rerank-core[torch] needs at least {wanted}", fix)
        else:
            yield Check(name, "ok", version)


def _least_versions() -> dict[str, str]:
    """What the ``torch`` extra of rerank-core asks for."""
    try:
        requirements = importlib.metadata.requires("rerank-core") or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    found = (re.match(r"([\w-]+)\s*>=\s*([\d.]+).*extra == ['\"]torch['\"]", line) for line in requirements)
    return {match[1]: match[2] for match in found if match}


def _numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: all it takes to compare with ours.

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
            f"{detail}. This machine has an NVIDIA driver, and torch {torch.__version__} is built without CUDA",
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
    """The accelerators torch can use; None where there is none."""
    if torch.cuda.is_available():
        found = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
        return ", ".join(f"{device.name} ({device.total_memory / 2**30:.0f} GiB)" for device in found)
    return "mps (Apple GPU)" if torch.backends.mps.is_available() else None


def _torch_is_broken(error: Exception) -> Check:
    return Check(
        "accelerator",
        "fail",
        f"torch is installed and cannot be imported: {type(error).__name__}: {error}",
        "pip install --force-reinstall torch",
    )


# ---------------------------------------------------------------------- plugins and their names
def _plugins(known: Registry) -> Iterator[Check]:
    if not known.plugins:
        yield Check("plugins", "warn", "none is installed, so no model has a name", "pip install rerank-mini")
    for plugin in known.plugins:
        yield _plugin(plugin)


def _plugin(plugin: PluginRecord) -> Check:
    name = f"plugin {plugin.name}"
    source = f"{plugin.distribution} {plugin.version}"
    if plugin.status == "ok":
        count = len(plugin.models)
        return Check(name, "ok", f"{source}, {count} model{'' if count == 1 else 's'}")
    if plugin.status == "disabled":
        return Check(name, "warn", f"{source}, {plugin.error}", f"take {plugin.name} out of {DISABLE}")
    mend = "" if plugin.distribution == "unknown" else f"pip install --upgrade {plugin.distribution}, or "
    tail = "\n".join(plugin.traceback.strip().splitlines()[-6:])
    return Check(
        name,
        "fail",
        f"{source}, {plugin.status}: {plugin.error}" + (f"\n{tail}" if tail else ""),
        f"{mend}switch it off with {DISABLE}={plugin.name}",
    )


def _names(known: Registry) -> Iterator[Check]:
    conflicts = known.conflicts()
    for name, plugins in conflicts.items():
        ways = " or ".join(f"{plugin}:{name}" for plugin in plugins)
        yield Check(f"name {name}", "warn", f"claimed by {', '.join(plugins)}", f"say which one is meant: {ways}")
    if not conflicts:
        yield Check("names", "ok", "no name is claimed twice")


# ---------------------------------------------------------------------- the hub and the environment
def _cache() -> Check:
    path = _cache_directory()
    there = next(folder for folder in (path, *path.parents) if os.path.exists(folder))
    detail = f"{path}{'' if there == path else ' (not there yet)'}, {shutil.disk_usage(there).free / 1e9:.0f} GB free"
    if there.is_dir() and os.access(there, os.W_OK):
        return Check("hub cache", "ok", detail)
    return Check("hub cache", "warn", f"{detail}; it cannot be written", "set HF_HUB_CACHE to a folder of yours")


def _cache_directory() -> Path:
    """Where huggingface_hub keeps what it downloads."""
    home = os.environ.get("HF_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    variables = ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE")
    given = next((os.environ[name] for name in variables if os.environ.get(name)), os.path.join(home, "hub"))
    return Path(os.path.expanduser(given)).absolute()


def _settings(known: Registry) -> Iterator[Check]:
    given = {name: os.environ[name] for name in _HUB_VARIABLES if name in os.environ}
    yield Check(
        "hub settings", "ok", ", ".join(f"{k}={v}" for k, v in given.items()) or f"none of {', '.join(_HUB_VARIABLES)}"
    )
    disabled = [name.strip() for name in os.environ.get(DISABLE, "").split(",") if name.strip()]
    installed = {name for plugin in known.plugins for name in (plugin.name, plugin.distribution)}
    if strangers := [name for name in disabled if name not in installed]:
        detail = f"names what is not installed: {', '.join(strangers)}"
        yield Check(DISABLE, "warn", detail, f"the plugins are {', '.join(sorted(p.name for p in known.plugins))}")
    else:
        yield Check(DISABLE, "ok", ", ".join(disabled) or "not set")


# ---------------------------------------------------------------------- one model, tried
def _model(name: str) -> Iterator[Check]:
    loading, ranking = f"load {name}", f"rank with {name}"
    started = time.perf_counter()
    try:
        reranker = load(name)
    except BaseException as error:  # noqa: BLE001 - whatever stops a model is the finding, not a crash of the doctor
        yield _failure(loading, error)
        return
    with reranker:
        source = reranker.spec.checkpoint or reranker.spec.scorer
        yield Check(loading, "ok", f"{reranker.spec.name} from {source} in {time.perf_counter() - started:.1f} s")
        try:
            yield _rank(ranking, reranker)
        except BaseException as error:  # noqa: BLE001 - as above
            yield _failure(ranking, error)


def _rank(name: str, reranker: Reranker) -> Check:
    # The first call pays for what is made on demand, so that the second one can be timed.
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
        f"{detail}. The irrelevant one is not below, as with a score head that was never trained",
        "check that the checkpoint is a trained reranker, and one for English",
    )


def _failure(name: str, error: BaseException) -> Check:
    if is_users_interrupt(error):
        raise error
    if isinstance(error, RerankError):
        return Check(name, "fail", f"{type(error).__name__}: {error}")
    tail = "".join(traceback.format_exception(error)).strip().splitlines()[-6:]
    return Check(name, "fail", "\n".join(tail), "this is a bug in the model's plugin or in rerank-core; report it")
