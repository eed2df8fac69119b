"""Reads one installed plugin: imports it, checks it and calls its hooks; its `PluginRecord` keeps any error."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pluggy

from rerank_core.errors import CheckpointError, DuplicateModelError, PluginError, PluginLoadError, RerankError, short
from rerank_core.plugins import hookspecs
from rerank_core.plugins.entry_points import distribution_of, normalized_name
from rerank_core.plugins.isolation import PluginFault, isolated, one_line
from rerank_core.spec import ModelSpec
from rerank_core.spec.hub_or_folder import is_hub_id

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["DISABLE", "Command", "PluginRecord", "call_hook", "read_plugin", "unreadable"]

DISABLE = "RERANK_DISABLE_PLUGINS"
"""The environment variable with a comma-separated list of plugins or distributions that are switched off."""


_COMMAND = re.compile(r"[a-z][a-z0-9-]{0,39}")


@dataclass(frozen=True)
class Command:
    """A subcommand of ``rerank``: ``target`` is ``package.module:app``, a Typer app that is not imported yet."""

    name: str
    target: str
    help: str


@dataclass(frozen=True)
class PluginRecord:
    """One installed plugin and the result of loading it.

    Attributes:
        name: the name of its entry point; the ``plugin`` in ``plugin:model``.
        status: ``ok``; ``disabled`` by the environment; ``failed`` on import; ``incompatible`` with this core's
            hook API; ``invalid`` hooks or models.
        error: one line; empty where the status is ``ok``.
        open_model: the hook that finds the model of ``plugin:source`` where no model has the name ``source``; None if
            not implemented.
        match_checkpoint: the hook that finds the model of a checkpoint directory; None if not implemented.
        commands: the subcommands that it adds to ``rerank``.
    """

    name: str
    distribution: str
    version: str
    module: str
    status: Literal["ok", "disabled", "failed", "incompatible", "invalid"] = "ok"
    error: str = ""
    traceback: str = ""
    models: tuple[ModelSpec, ...] = ()
    open_model: Callable[[str], ModelSpec | None] | None = None
    match_checkpoint: Callable[[Path], ModelSpec | None] | None = None
    commands: tuple[Command, ...] = ()


def read_plugin(point: EntryPoint, disabled: set[str]) -> PluginRecord:
    """The record of the plugin behind an entry point. Its errors are recorded, not raised.

    Args:
        disabled: normalized names of plugins and distributions that are switched off.
    """
    distribution, version = distribution_of(point)
    record = PluginRecord(point.name, distribution, version, point.value)
    if {normalized_name(point.name), normalized_name(distribution)} & disabled:
        return replace(record, status="disabled", error=f"switched off by {DISABLE}")
    try:
        with isolated():
            module = point.load()
    except PluginFault as fault:
        return _broken(record, "failed", fault.error)
    try:
        with isolated():
            api = getattr(module, "RERANK_API_VERSION", hookspecs.API_VERSION)
            if type(api) is not int or api != hookspecs.API_VERSION:
                problem = PluginLoadError(
                    f"written for hook API {short(api)}, and this rerank-core has {hookspecs.API_VERSION}; "
                    f"upgrade {distribution} or rerank-core"
                )
                return _broken(record, "incompatible", problem)
            return _call_hooks(module, record)
    except PluginFault as fault:
        return _broken(record, "invalid", fault.error)


def unreadable(name: str, error: Exception) -> PluginRecord:
    """The record of a distribution whose metadata cannot be read, so that its plugins are unknown."""
    problem = PluginLoadError(f"its metadata cannot be read: {one_line(error)}; install it again")
    return _broken(PluginRecord(name, name, "unknown", ""), "failed", problem)


def _call_hooks(module: object, record: PluginRecord) -> PluginRecord:
    """The record of a plugin with the results of its hooks, which are called in a separate plugin manager."""
    manager = pluggy.PluginManager(hookspecs.GROUP)
    manager.add_hookspecs(hookspecs.HookSpecs)
    manager.register(module, record.name)
    manager.check_pending()
    if not manager.get_hookcallers(module):
        raise PluginLoadError(f"the module {module!r} implements no hook; is @hookimpl missing?")
    for caller in manager.get_hookcallers(module) or ():
        for implementation in caller.get_hookimpls():
            _check_kind(caller.name, implementation)
    models: list[ModelSpec] = []
    registering = True

    def register(spec: ModelSpec) -> None:
        if not registering:
            raise PluginLoadError("register() was called after the hook had returned; call it inside the hook")
        if type(spec) is not ModelSpec:  # a subclass could run code in its properties later
            raise PluginLoadError(f"register() was given {short(spec)}; it takes a ModelSpec")
        if is_hub_id(spec.name):
            raise PluginLoadError(
                f"register() was given a model named {spec.name!r}; a registered name is kebab-case, like "
                "'family-variant', and its hub id is an alias"
            )
        taken = {known for model in models for known in model.names}.intersection(spec.names)
        if taken:
            raise DuplicateModelError(f"the plugin registers {sorted(taken)!r} twice")
        models.append(spec)

    commands: dict[str, Command] = {}

    def register_command(name: str, target: str, help: str) -> None:  # noqa: A002 -- the usual name in CLI libraries
        if not all(isinstance(value, str) for value in (name, target, help)) or not _COMMAND.fullmatch(name):
            raise PluginLoadError(
                f"register({short(name)}, {short(target)}, {short(help)}): a command needs a lower-case name, "
                "'package.module:app' and a line of help"
            )
        if not re.fullmatch(r"[\w.]+:\w+", target):
            raise PluginLoadError(f"the command {name!r} is {short(target)}; it must be 'package.module:app'")
        if name in commands:
            raise PluginLoadError(f"the plugin registers the command {name!r} twice")
        commands[name] = Command(name, target, help)

    _check_no_result("rerank_register_models", manager.hook.rerank_register_models(register=register))
    registering = False
    _check_no_result("rerank_register_commands", manager.hook.rerank_register_commands(register=register_command))
    open_model, match_checkpoint = manager.hook.rerank_open_model, manager.hook.rerank_match_checkpoint
    return replace(
        record,
        models=tuple(models),
        open_model=(lambda source: open_model(source=source)) if open_model.get_hookimpls() else None,
        match_checkpoint=(lambda directory: match_checkpoint(directory=directory))
        if match_checkpoint.get_hookimpls()
        else None,
        commands=tuple(commands.values()),
    )


def _check_kind(hook: str, implementation: pluggy.HookImpl) -> None:
    """Raise PluginLoadError for a hook implementation whose body would never run, and for a hook wrapper."""
    function = implementation.function
    if implementation.hookwrapper or implementation.wrapper:
        raise PluginLoadError(
            f"{hook} is a wrapper, and each plugin's hooks are called alone; make it a plain function"
        )
    if (
        inspect.isgeneratorfunction(function)
        or inspect.iscoroutinefunction(function)
        or inspect.isasyncgenfunction(function)
    ):
        raise PluginLoadError(
            f"{hook} is a generator or coroutine, whose body does not run when it is called; make it a plain function"
        )


def _check_no_result(hook: str, results: list[Any]) -> None:
    """Raise PluginLoadError where a hook returned a value, which would be ignored."""
    for result in results:
        if inspect.iscoroutine(result):
            result.close()
        raise PluginLoadError(f"{hook} returned {short(result)}; it must call register(), and return nothing")


def call_hook(plugin: PluginRecord, hook: Callable[[Any], ModelSpec | None], value: object) -> ModelSpec | None:
    """The spec that a plugin's hook returns for a value; None where the hook returns None.

    Raises:
        CheckpointError: the hook raised it: the files are of the plugin's kind, and damaged.
        PluginError: the hook failed, or returned neither a ModelSpec nor None.
    """
    try:
        with isolated():
            spec = hook(value)
    except PluginFault as fault:
        if isinstance(fault.error, CheckpointError):
            raise fault.error from fault.error.__cause__
        raise PluginError(f"{plugin.name!r} could not open {short(value)}: {fault}") from fault.error
    if spec is not None and type(spec) is not ModelSpec:
        raise PluginError(f"{plugin.name!r} opened {short(value)} as {short(spec)}, which is no ModelSpec")
    return spec


def _broken(
    record: PluginRecord, status: Literal["failed", "incompatible", "invalid"], error: BaseException
) -> PluginRecord:
    import traceback  # imports two modules more, and is needed only after an error

    line = one_line(error)
    text = line.partition(": ")[2] if isinstance(error, RerankError) else line
    return replace(record, status=status, error=text, traceback="".join(traceback.format_exception(error)))
