"""From a name to a `ModelSpec`: discovery of plugins, exact names, helpful failures.

Discovery is our own loop because pluggy's loader lets one broken plugin stop all of them. Each plugin is imported,
checked and asked on its own; what goes wrong is recorded on its `PluginRecord` and breaks nothing else.
"""

from __future__ import annotations

import difflib
import functools
import importlib.metadata
import json
import os
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Literal

import pluggy

from rerank_core import hookspecs
from rerank_core.errors import DuplicateModelError, PluginLoadError, RerankError, UnknownModelError
from rerank_core.spec import ModelSpec
from rerank_core.spec_file import spec_of_directory

__all__ = ["PluginRecord", "Registry", "default", "first_party"]

DISABLE = "RERANK_DISABLE_PLUGINS"


@dataclass(frozen=True)
class PluginRecord:
    """One installed plugin and how it fared.

    Attributes:
        name: of its entry point; the ``plugin`` in ``plugin:model``.
        status: ``ok``; ``disabled`` by the environment; ``failed`` on import; ``incompatible`` with this core's
            hook API; ``invalid`` hooks or models.
        error: one line; empty where the status is ``ok``.
    """

    name: str
    distribution: str
    version: str
    module: str
    status: Literal["ok", "disabled", "failed", "incompatible", "invalid"] = "ok"
    error: str = ""
    traceback: str = ""
    models: tuple[ModelSpec, ...] = ()


class Registry:
    """The installed plugins and their models."""

    def __init__(self, plugins: Sequence[PluginRecord]) -> None:
        self.plugins = tuple(plugins)
        self._names: dict[str, list[tuple[PluginRecord, ModelSpec]]] = {}
        for plugin in self.plugins:
            for spec in plugin.models:
                for name in spec.names:
                    self._names.setdefault(name, []).append((plugin, spec))

    @classmethod
    def discover(cls) -> Registry:
        """Read the installed plugins: one per entry point of group ``rerank_core``."""
        points = importlib.metadata.entry_points(group=hookspecs.GROUP)
        disabled = {name.strip() for name in os.environ.get(DISABLE, "").split(",")}
        return cls([_read_plugin(point, disabled) for point in _distinct(points)])

    def models(self) -> list[ModelSpec]:
        """Every model of every working plugin, by name; contested ones once for each claim."""
        return sorted((spec for plugin in self.plugins for spec in plugin.models), key=lambda spec: spec.name)

    def plugin_of(self, spec: ModelSpec) -> PluginRecord | None:
        """The plugin that registered this very spec; two plugins may register equal ones."""
        return next((plugin for plugin in self.plugins if any(own is spec for own in plugin.models)), None)

    def conflicts(self) -> dict[str, list[str]]:
        """Names that several plugins claim: ``{name: [plugin, ...]}``."""
        return {name: [plugin.name for plugin, _ in claims] for name, claims in self._names.items() if len(claims) > 1}

    def resolve(self, name: str) -> ModelSpec:
        """The spec of an exact name, an alias, ``plugin:name``, or a directory.

        Raises:
            DuplicateModelError: several plugins claim the name.
            CheckpointError: a directory that holds no reranker.
            UnknownModelError: anything else, with near matches and the install line that would help.
        """
        plugin, _, rest = name.rpartition(":")
        claims = self._names.get(name, []) or [
            (record, spec) for record, spec in self._names.get(rest, []) if record.name == plugin
        ]
        if len(claims) > 1:
            owners = [f"{record.name}:{name} ({record.distribution})" for record, _ in claims]
            raise DuplicateModelError(
                f"{len(claims)} plugins claim the model name {name!r}: {', '.join(owners)}. "
                f"Say which one: {claims[0][0].name}:{name}"
            )
        if claims:
            return claims[0][1]
        if Path(name).is_dir():
            return spec_of_directory(name, self.resolve)
        raise UnknownModelError(self._unknown(name))

    def _unknown(self, name: str) -> str:
        parts = [f"no installed plugin has a model named {name!r}, and it is no directory."]
        known = _known_models()
        if name in known:
            parts.append(f"It comes with {known[name]}: pip install {known[name]}")
        else:
            spelt = {candidate.lower(): candidate for candidate in [*known, *self._names]}
            near = [spelt[match] for match in difflib.get_close_matches(name.lower(), spelt, n=3)]
            if near:
                lines = [n if n in self._names else f"{n} (pip install {known[n]})" for n in near]
                parts.append(f"Did you mean {', '.join(lines)}?")
            parts.append("`rerank models` lists what is installed.")
        fine = ("ok", "disabled")
        broken = [f"{plugin.name} ({plugin.error})" for plugin in self.plugins if plugin.status not in fine]
        if broken:
            parts.append(f"These plugins did not load: {'; '.join(broken)}. See `rerank doctor`.")
        off = [plugin.name for plugin in self.plugins if plugin.status == "disabled"]
        if off:
            parts.append(f"{DISABLE} switches off: {', '.join(off)}.")
        return " ".join(parts)


@functools.lru_cache(maxsize=1)
def default() -> Registry:
    """The registry of this process, read once, at the first question."""
    return Registry.discover()


def _distinct(
    points: Iterable[importlib.metadata.EntryPoint],
) -> list[importlib.metadata.EntryPoint]:
    """The same distribution may be on the path twice (an editable install and a wheel); the first one counts."""
    seen: dict[tuple[str, str], importlib.metadata.EntryPoint] = {}
    for point in points:
        seen.setdefault((_distribution(point)[0].lower().replace("_", "-"), point.name), point)
    return sorted(seen.values(), key=lambda point: point.name)


def _distribution(point: importlib.metadata.EntryPoint) -> tuple[str, str]:
    if point.dist is None:
        return "unknown", "unknown"
    return point.dist.name, point.dist.version


def _read_plugin(point: importlib.metadata.EntryPoint, disabled: set[str]) -> PluginRecord:
    distribution, version = _distribution(point)
    record = PluginRecord(point.name, distribution, version, point.value)
    if point.name in disabled or distribution in disabled:
        return replace(record, status="disabled", error=f"switched off by {DISABLE}")
    try:
        module = point.load()
    except (Exception, SystemExit) as error:  # noqa: BLE001 -- whatever a stranger's module raises stays its own
        return _broken(record, "failed", error)
    wanted = getattr(module, "RERANK_API_VERSION", hookspecs.API_VERSION)
    if wanted != hookspecs.API_VERSION:
        problem = PluginLoadError(
            f"written for hook API {wanted!r}, and this rerank-core has {hookspecs.API_VERSION}; "
            f"upgrade {distribution} or rerank-core"
        )
        return _broken(record, "incompatible", problem)
    try:
        return replace(record, models=_ask(module, point.name))
    except (Exception, SystemExit) as error:  # noqa: BLE001
        return _broken(record, "invalid", error)


def _ask(module: object, name: str) -> tuple[ModelSpec, ...]:
    """Call the hooks of one plugin, alone in a manager of its own."""
    manager = pluggy.PluginManager(hookspecs.GROUP)
    manager.add_hookspecs(hookspecs.HookSpecs)
    manager.register(module, name)
    manager.check_pending()
    models: list[ModelSpec] = []

    def register(spec: ModelSpec) -> None:
        if not isinstance(spec, ModelSpec):
            raise PluginLoadError(f"register() was given {spec!r}; it takes a ModelSpec")
        taken = {known for model in models for known in model.names}.intersection(spec.names)
        if taken:
            raise DuplicateModelError(f"the plugin registers {sorted(taken)!r} twice")
        models.append(spec)

    manager.hook.rerank_register_models(register=register)
    return tuple(models)


def _broken(
    record: PluginRecord, status: Literal["failed", "incompatible", "invalid"], error: BaseException
) -> PluginRecord:
    text = str(error) if isinstance(error, RerankError) else f"{type(error).__name__}: {error}"
    return replace(
        record,
        status=status,
        error=" ".join(text.split()),
        traceback="".join(traceback.format_exception(error)),
    )


def first_party(name: str) -> str | None:
    """The distribution of ours that brings a model of this name, installed or not."""
    return _known_models().get(name)


@functools.lru_cache(maxsize=1)
def _known_models() -> dict[str, str]:
    """First-party model names and the distribution that brings each; generated (`make fix`), for install hints."""
    table: dict[str, str] = json.loads(files("rerank_core").joinpath("known_models.json").read_text(encoding="utf-8"))
    return table
