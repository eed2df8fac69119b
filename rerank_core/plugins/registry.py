"""From a name to a `ModelSpec`: discovery of plugins, exact names, helpful failures.

Discovery is our own loop because pluggy's loader lets one broken plugin stop all of them. Each plugin is imported,
checked and asked on its own; what goes wrong is recorded on its `PluginRecord` and breaks nothing else.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from rerank_core.errors import CheckpointError, DuplicateModelError, RerankError, UnknownModelError, near_matches, short
from rerank_core.plugins.discovery import (
    DISABLE,
    Command,
    PluginRecord,
    call_hook,
    read_plugin,
    unreadable,
)
from rerank_core.plugins.entry_points import entry_points, normalized_name
from rerank_core.spec import ModelSpec
from rerank_core.spec.adapter_folder import spec_of_adapter
from rerank_core.spec.hub_or_folder import directory_of, is_hub_id, is_path
from rerank_core.spec.reranker_json import has_spec, spec_of_directory

__all__ = ["Registry", "default", "first_party"]


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
        points, unread = entry_points()
        disabled = {normalized_name(name) for name in os.environ.get(DISABLE, "").split(",")}
        broken = [unreadable(name, error) for name, error in unread.items() if normalized_name(name) not in disabled]
        return cls([*(read_plugin(point, disabled) for point in points), *broken])

    def models(self) -> list[ModelSpec]:
        """Every model of every working plugin, by name; contested ones once for each claim."""
        return sorted((spec for plugin in self.plugins for spec in plugin.models), key=lambda spec: spec.name)

    def plugin_of(self, spec: ModelSpec) -> PluginRecord | None:
        """The plugin that registered this very spec; two plugins may register equal ones."""
        return next((plugin for plugin in self.plugins if any(own is spec for own in plugin.models)), None)

    def conflicts(self) -> dict[str, list[str]]:
        """Names that several plugins claim: ``{name: [plugin, ...]}``."""
        return {name: [plugin.name for plugin, _ in claims] for name, claims in self._names.items() if len(claims) > 1}

    def commands(self) -> dict[str, list[tuple[PluginRecord, Command]]]:
        """Subcommands that plugins add, by name, each with everyone who claims it."""
        found: dict[str, list[tuple[PluginRecord, Command]]] = {}
        for plugin in self.plugins:
            for command in plugin.commands:
                found.setdefault(command.name, []).append((plugin, command))
        return dict(sorted(found.items()))

    def resolve(self, name: str) -> ModelSpec:
        """The spec of an exact name, an alias, ``plugin:name``, or a directory.

        Raises:
            DuplicateModelError: several plugins claim the name.
            CheckpointError: a directory that holds no reranker.
            UnknownModelError: anything else, with near matches and the install line that would help.
        """
        if not isinstance(name, str) or not name.strip():
            raise UnknownModelError(f"the model name is {short(name)}; `rerank models` lists what is installed")
        directory = self.directory(name)
        if directory is None:
            return self.named(name)
        matched, failures = self._matched(directory)
        if matched is not None:
            return matched
        for error in failures:
            if isinstance(error, CheckpointError):  # of the plugin's kind, and damaged
                raise error
        try:
            return spec_of_adapter(directory, self.named) or spec_of_directory(directory, self.named)
        except CheckpointError as error:
            if not failures:
                raise
            failed = "; ".join(map(str, failures))
            raise CheckpointError(f"{error}. A plugin that may know it failed: {failed}") from failures[0]

    def directory(self, source: str) -> Path | None:
        """The directory that ``source`` names; None where it names a model, or nothing that is here.

        What is written as a path is a directory and nothing else. Any other string is first the name of a model,
        so that no folder takes that over, and only then a directory.

        Raises:
            CheckpointError: written as a path, and no directory is there.
        """
        found = directory_of(source)
        if found is None or is_path(source) or not (self._claims(source) or first_party(source)):
            return found
        # Costs as much to import as half of the core; a process that passes nothing over does not need it.
        import logging

        logging.getLogger("rerank_core").warning(
            "%r is the name of a model, so the folder of that name was passed over; %r names the folder",
            source,
            _as_path(source),
        )
        return None

    def checkpoint(self, source: str) -> str:
        """What ``checkpoint=`` names, as a string that no folder can take over: a directory's absolute path, a hub
        id, or ``package:NAME/FOLDER``.

        Raises:
            CheckpointError: none of these.
        """
        directory = self.directory(source)
        if directory is not None:
            return str(directory.absolute())
        if is_hub_id(source) or source.startswith("package:"):
            return source
        known = f" {short(source)} is a model's name." if self._claims(source) else ""
        raise CheckpointError(
            f"checkpoint {short(source)} is no directory here, and not a hub id like 'owner/name'.{known}"
        )

    def named(self, name: str) -> ModelSpec:
        """The spec of an exact name, an alias or ``plugin:name``; never a directory.

        Raises:
            DuplicateModelError: several plugins claim the name.
            UnknownModelError: none does.
        """
        claims = self._claims(name)
        if len(claims) > 1:
            plain = name.rpartition(":")[2]
            plugins = [record.name for record, _ in claims]
            ways = [
                f"{record.name if plugins.count(record.name) == 1 else record.distribution}:{plain}"
                for record, _ in claims
            ]
            raise DuplicateModelError(
                f"{len(claims)} plugins claim the model name {name!r}. Say which one: {' or '.join(ways)}"
            )
        if not claims:
            opened = self._opened(name)
            if opened is None:
                raise UnknownModelError(self._unknown(name))
            return opened
        return claims[0][1]

    def _claims(self, name: str) -> list[tuple[PluginRecord, ModelSpec]]:
        """Who answers to ``name``; before its colon stands an entry point's name or a distribution's."""
        plugin, colon, plain = name.rpartition(":")
        found = self._names.get(plain, [])
        return [claim for claim in found if not colon or plugin in (claim[0].name, claim[0].distribution)]

    def _opened(self, name: str) -> ModelSpec | None:
        """What the plugin before the first colon makes of what follows it."""
        before, colon, source = name.partition(":")
        for plugin in self.plugins if colon and source.strip() else ():
            if before in (plugin.name, plugin.distribution) and plugin.open_model is not None:
                return call_hook(plugin, plugin.open_model, source)
        return None

    def _matched(self, directory: Path) -> tuple[ModelSpec | None, list[RerankError]]:
        """What the plugins say of a checkpoint directory that does not describe itself, and how some failed: one that
        fails keeps no other from answering."""
        found: list[tuple[str, ModelSpec]] = []
        failures: list[RerankError] = []
        if has_spec(directory):
            return None, failures
        for plugin in self.plugins:
            answer = None if plugin.match_checkpoint is None else _answer(plugin, plugin.match_checkpoint, directory)
            if isinstance(answer, RerankError):
                failures.append(answer)
            elif answer is not None:
                found.append((plugin.name, answer))
        if len(found) > 1:
            raise DuplicateModelError(
                f"several plugins take {str(directory)!r} for theirs: {', '.join(name for name, _ in found)}. "
                f"Say which by loading a name of its with checkpoint={str(directory)!r}"
            )
        for _, spec in found:
            return spec if spec.checkpoint else replace(spec, checkpoint=str(directory.resolve())), failures
        return None, failures

    def _unknown(self, name: str) -> str:
        # A folder of the name of a known model is not that model.
        where = f"the folder of that name is {_as_path(name)!r}" if os.path.isdir(name) else "it is no directory"
        parts = [f"no installed plugin has a model named {short(name)}, and {where}."]
        known = _known_models()
        off = [plugin.name for plugin in self.plugins if plugin.status == "disabled"]
        if name in known and known[name] not in {plugin.distribution for plugin in self.plugins}:
            parts.append(f"It comes with {known[name]}: pip install {known[name]}")
        else:
            if near := near_matches(name, [*known, *self._names], most=3):
                lines = [n if n in self._names else f"{n} (pip install {known[n]})" for n in near]
                parts.append(f"Did you mean {', '.join(lines)}?")
            parts.append("`rerank models` lists what is installed.")
        fine = ("ok", "disabled")
        broken = [f"{plugin.name} ({plugin.error})" for plugin in self.plugins if plugin.status not in fine]
        if broken:
            parts.append(f"These plugins did not load: {'; '.join(broken)}. See `rerank doctor`.")
        if off:
            parts.append(f"{DISABLE} switches off: {', '.join(off)}.")
        return " ".join(parts)


@functools.lru_cache(maxsize=1)
def default() -> Registry:
    """The registry of this process, read once, at the first question."""
    return Registry.discover()


def _answer(
    plugin: PluginRecord, hook: Callable[[Path], ModelSpec | None], directory: Path
) -> ModelSpec | RerankError | None:
    """What a plugin says of a directory, or how it failed."""
    try:
        return call_hook(plugin, hook, directory)
    except RerankError as error:
        return error


def _as_path(name: str) -> str:
    """A folder's name, written so that it can be nothing else."""
    return os.path.join(os.curdir, name)


def first_party(name: str) -> str | None:
    """The distribution of ours that brings a model of this name, installed or not."""
    return _known_models().get(name)


@functools.lru_cache(maxsize=1)
def _known_models() -> dict[str, str]:
    """First-party model names and the distribution that brings each; generated (`make fix`), for install hints."""
    table: dict[str, str] = json.loads(Path(__file__).with_name("known_models.json").read_text(encoding="utf-8"))
    return table
