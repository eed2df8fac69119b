"""`Registry`: the installed plugins, and the `ModelSpec` of an exact model name.

Discovery is a loop of our own because one broken plugin stops pluggy's loader for all. Each plugin is imported, checked
and called alone; its errors are recorded on its `PluginRecord` and affect no other plugin.
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
from rerank_core.spec.hub_or_folder import Remote, directory_of, is_path, remote_of
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
        """Every model of every working plugin, sorted by name; a name that two plugins register occurs twice."""
        return sorted((spec for plugin in self.plugins for spec in plugin.models), key=lambda spec: spec.name)

    def plugin_of(self, spec: ModelSpec) -> PluginRecord | None:
        """The plugin that registered this spec object, compared by identity: two plugins may register equal specs."""
        return next((plugin for plugin in self.plugins if any(model is spec for model in plugin.models)), None)

    def conflicts(self) -> dict[str, list[str]]:
        """Names that several plugins register: ``{name: [plugin, ...]}``."""
        return {name: [plugin.name for plugin, _ in claims] for name, claims in self._names.items() if len(claims) > 1}

    def commands(self) -> dict[str, list[tuple[PluginRecord, Command]]]:
        """Subcommands that plugins add, sorted by name, each with all plugins that register it."""
        by_name: dict[str, list[tuple[PluginRecord, Command]]] = {}
        for plugin in self.plugins:
            for command in plugin.commands:
                by_name.setdefault(command.name, []).append((plugin, command))
        return dict(sorted(by_name.items()))

    def resolve(self, name: str) -> ModelSpec:
        """The spec of an exact name, an alias, ``plugin:name``, a directory or a GGUF file.

        Raises:
            DuplicateModelError: several plugins register the name.
            CheckpointError: the directory or file holds no reranker.
            UnknownModelError: the name is unknown; the message has near matches or an install command.
        """
        if not isinstance(name, str) or not name.strip():
            raise UnknownModelError(f"the model name is {short(name)}; `rerank models` lists what is installed")
        directory = self.directory(name)
        return self.named(name) if directory is None else self._of_directory(directory)

    def _of_directory(self, directory: Path) -> ModelSpec:
        """The spec of a directory or a GGUF file."""
        # Importing these takes a tenth of the core's time, and a model with a name needs none of them.
        from rerank_core.spec.folders.adapter import spec_of_adapter
        from rerank_core.spec.folders.cross_encoder import spec_of_cross_encoder
        from rerank_core.spec.folders.embedder import spec_of_embedder
        from rerank_core.spec.gguf.choice import gguf_of
        from rerank_core.spec.gguf.rank_spec import spec_of_gguf

        file = None if has_spec(directory) else gguf_of(directory)
        if file is not None:
            return spec_of_gguf(file)
        matched, failures = self._matched(directory)
        if matched is not None:
            return matched
        for error in failures:
            if isinstance(error, CheckpointError):  # the plugin reads files of this kind, and these are damaged
                raise error
        try:
            return (
                spec_of_adapter(directory, self.named)
                or spec_of_cross_encoder(directory)
                or spec_of_embedder(directory)
                or spec_of_directory(directory, self.named)
            )
        except CheckpointError as error:
            if not failures:
                raise
            failed = "; ".join(map(str, failures))
            raise CheckpointError(f"{error}. A plugin that may be able to load it failed: {failed}") from failures[0]

    def directory(self, source: str) -> Path | None:
        """The directory or GGUF file that ``source`` names; None where it names a model or neither of them.

        A string written as a path names only a directory. Any other string is the name of a model first and of a
        directory second, so that a local folder never replaces a known model.

        Raises:
            CheckpointError: ``source`` is written as a path, and no such directory exists.
        """
        path = directory_of(source)
        if path is None or is_path(source) or not (self._claims(source) or first_party(source)):
            return path
        # Importing it takes half as long as the rest of the core, and it is needed only for this warning.
        import logging

        logging.getLogger("rerank_core").warning(
            "%r is the name of a model, so the folder of that name was ignored; write %r for the folder",
            source,
            _as_path(source),
        )
        return None

    def checkpoint(self, source: str) -> str:
        """The value of ``checkpoint=`` in an unambiguous form: the absolute path of a directory or GGUF file, a model
        or GGUF file of a hub (`remote_of`), or ``package:NAME/FOLDER``.

        Raises:
            CheckpointError: ``source`` is none of these.
        """
        directory = self.directory(source)
        if directory is not None:
            return str(directory.absolute())
        if remote_of(source) is not None or source.startswith("package:"):
            return source
        known = f" {short(source)} is a model's name." if self._claims(source) else ""
        raise CheckpointError(
            f"checkpoint {short(source)} is neither an existing directory or .gguf file nor a hub id like 'owner/name' "
            f"or 'modelscope:owner/name'.{known}"
        )

    def named(self, name: str) -> ModelSpec:
        """The spec of an exact name, an alias or ``plugin:name``; never a directory.

        Raises:
            DuplicateModelError: several plugins register the name.
            UnknownModelError: no plugin registers it.
        """
        claims = self._claims(name)
        if len(claims) > 1:
            model = name.rpartition(":")[2]
            plugins = [record.name for record, _ in claims]
            full_names = [
                f"{record.name if plugins.count(record.name) == 1 else record.distribution}:{model}"
                for record, _ in claims
            ]
            raise DuplicateModelError(
                f"{len(claims)} plugins claim the model name {name!r}. Say which one: {' or '.join(full_names)}"
            )
        if not claims:
            opened = self._opened(name)
            if opened is None:
                raise UnknownModelError(self._unknown(name))
            return opened
        return claims[0][1]

    def copied(self, remote: Remote) -> ModelSpec | None:
        """The model that a repository of ModelScope copies: the one with the same id on the hub of Hugging Face. Its
        spec says what the files of many models do not, such as their template. None for any other repository.

        Raises:
            DuplicateModelError: several plugins register the hub id.
            UnknownModelError: its plugin is not installed; the message has the command that installs it.
        """
        known = remote.on_modelscope and (self._claims(remote.id) or first_party(remote.id))
        return self.named(remote.id) if known else None

    def _claims(self, name: str) -> list[tuple[PluginRecord, ModelSpec]]:
        """The models registered as ``name``, or as ``plugin:name`` with the name of an entry point or distribution."""
        plugin, colon, model = name.rpartition(":")
        claims = self._names.get(model, [])
        return [claim for claim in claims if not colon or plugin in (claim[0].name, claim[0].distribution)]

    def _opened(self, name: str) -> ModelSpec | None:
        """The model that the hook ``open_model`` of ``plugin`` finds for ``plugin:source``."""
        plugin_name, colon, source = name.partition(":")
        for plugin in self.plugins if colon and source.strip() else ():
            if plugin_name in (plugin.name, plugin.distribution) and plugin.open_model is not None:
                return call_hook(plugin, plugin.open_model, source)
        return None

    def _matched(self, directory: Path) -> tuple[ModelSpec | None, list[RerankError]]:
        """The model that a plugin's hook finds in a checkpoint directory without ``reranker.json``, and the errors of
        the hooks that failed; the remaining hooks are called all the same."""
        matches: list[tuple[str, ModelSpec]] = []
        failures: list[RerankError] = []
        if has_spec(directory):
            return None, failures
        for plugin in self.plugins:
            match = None if plugin.match_checkpoint is None else _match(plugin, plugin.match_checkpoint, directory)
            if isinstance(match, RerankError):
                failures.append(match)
            elif match is not None:
                matches.append((plugin.name, match))
        if len(matches) > 1:
            raise DuplicateModelError(
                f"several plugins recognise {str(directory)!r} as theirs: {', '.join(name for name, _ in matches)}. "
                f"Load a model of one of them by name with checkpoint={str(directory)!r}"
            )
        for _, spec in matches:
            return spec if spec.checkpoint else replace(spec, checkpoint=str(directory.resolve())), failures
        return None, failures

    def _unknown(self, name: str) -> str:
        # A folder with the name of a known first-party model is not loaded instead of the model.
        where = f"the folder of that name is {_as_path(name)!r}" if os.path.isdir(name) else "it is no directory"
        parts = [f"no installed plugin has a model named {short(name)}, and {where}."]
        known = _known_models()
        disabled = [plugin.name for plugin in self.plugins if plugin.status == "disabled"]
        if name in known and known[name] not in {plugin.distribution for plugin in self.plugins}:
            parts.append(f"It comes with {known[name]}: pip install {known[name]}")
        else:
            if near := near_matches(name, [*known, *self._names], most=3):
                lines = [n if n in self._names else f"{n} (pip install {known[n]})" for n in near]
                parts.append(f"Did you mean {', '.join(lines)}?")
            parts.append("`rerank models` lists what is installed.")
        not_broken = ("ok", "disabled")
        broken = [f"{plugin.name} ({plugin.error})" for plugin in self.plugins if plugin.status not in not_broken]
        if broken:
            parts.append(f"These plugins did not load: {'; '.join(broken)}. See `rerank doctor`.")
        if disabled:
            parts.append(f"{DISABLE} switches off: {', '.join(disabled)}.")
        return " ".join(parts)


@functools.lru_cache(maxsize=1)
def default() -> Registry:
    """The registry of this process, discovered once, at the first call."""
    return Registry.discover()


def _match(
    plugin: PluginRecord, hook: Callable[[Path], ModelSpec | None], directory: Path
) -> ModelSpec | RerankError | None:
    """The model that a plugin's hook finds in a directory, or the hook's error."""
    try:
        return call_hook(plugin, hook, directory)
    except RerankError as error:
        return error


def _as_path(name: str) -> str:
    """A folder's name written as a path, ``./name``."""
    return os.path.join(os.curdir, name)


def first_party(name: str) -> str | None:
    """The first-party distribution that provides a model of this name, installed or not."""
    return _known_models().get(name)


@functools.lru_cache(maxsize=1)
def _known_models() -> dict[str, str]:
    """First-party model names and the distribution of each, for install hints; generated by `make fix`."""
    table: dict[str, str] = json.loads(Path(__file__).with_name("known_models.json").read_text(encoding="utf-8"))
    return table
