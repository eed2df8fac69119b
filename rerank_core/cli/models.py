"""``rerank models`` and ``rerank plugins``: what is installed. Neither imports torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeAlias

import typer

from rerank_core.cli.options import AsJson
from rerank_core.cli.output import emit_json, note, show, table, terminal_width, warn
from rerank_core.plugins import registry
from rerank_core.plugins.discovery import PluginRecord
from rerank_core.plugins.registry import Registry
from rerank_core.spec import ModelSpec

__all__ = ["models", "plugins"]

_DESCRIPTION = 30
"""Columns below which a description is not worth showing in a table."""
_Claim: TypeAlias = tuple[PluginRecord | None, ModelSpec]


def models(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Show all facts and options of this one.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the installed models, or tell all about one.

    \b
    Examples:
      rerank models
      rerank models mini
      rerank models --json | jq -r '.models[].name'
    """
    known = registry.default()
    found: list[_Claim] = [(plugin, spec) for plugin in known.plugins for spec in plugin.models]
    found.sort(key=lambda claim: claim[1].name)
    if name is not None:
        spec = known.resolve(name)
        # Two plugins may register equal specs, so that only identity tells whose it is; nobody's, if a directory's.
        found = [claim for claim in found if claim[1] is spec] or [(None, spec)]
    if as_json:
        emit_json({"schema_version": 1, "models": [_facts(known, plugin, spec) for plugin, spec in found]})
    elif name is None:
        _list(known, found)
    else:
        _tell(_facts(known, *found[0]))
    broken = [plugin.name for plugin in known.plugins if plugin.status not in ("ok", "disabled")]
    if broken and not as_json:
        warn(f"not loaded, so their models are missing here: {', '.join(broken)}; see `rerank doctor`")


def plugins(as_json: AsJson = False) -> None:
    """List the installed plugins and how they fared.

    \b
    Examples:
      rerank plugins
      rerank plugins --json | jq '.plugins[] | select(.status != "ok")'
    """
    found = registry.default().plugins
    if as_json:
        emit_json({"schema_version": 1, "plugins": [_record(plugin) for plugin in found]})
        return
    rows = [
        (p.name, p.distribution, p.version, p.status, str(len(p.models)) if p.status == "ok" else "", p.error)
        for p in found
    ]
    if not rows:
        warn("no plugin is installed; `pip install rerank-mini` brings a first model")
        return
    headers = ("name", "distribution", "version", "status", "models", "error")
    show(table(headers, rows, right=("models",), wrap=("error",)))


def _record(plugin: PluginRecord) -> dict[str, Any]:
    return {
        "name": plugin.name,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "module": plugin.module,
        "status": plugin.status,
        "models": [spec.name for spec in plugin.models],
        "error": plugin.error,
    }


def _facts(known: Registry, plugin: PluginRecord | None, spec: ModelSpec) -> dict[str, Any]:
    conflicts = known.conflicts()
    return {
        **spec.facts(),
        "plugin": plugin.name if plugin else None,
        "distribution": plugin.distribution if plugin else None,
        "contested": [name for name in spec.names if name in conflicts],
    }


def _list(known: Registry, found: Sequence[_Claim]) -> None:
    if not found:
        warn("no model is installed; `pip install rerank-mini` brings a first one")
        return
    conflicts = known.conflicts()
    rows = [
        (
            # Where several plugins claim a name, the longer one is the one that works.
            f"{plugin.name}:{spec.name} (contested)" if plugin and spec.name in conflicts else spec.name,
            plugin.name if plugin else "",
            spec.head.kind if spec.head else "own code",
            str(spec.max_length),
            " ".join(spec.languages),
            spec.license,
            spec.description,
        )
        for plugin, spec in found
    ]
    headers = ("name", "plugin", "head", "max_length", "languages", "license", "description")
    width = terminal_width()
    needed = sum(2 + max(len(cell) for cell in column) for column in zip(headers, *rows, strict=True))
    described = width is None or needed - max(len(row[-1]) for row in rows) + _DESCRIPTION <= width
    columns = slice(None) if described else slice(-1)
    show(
        table(
            headers[columns], [row[columns] for row in rows], right=("max_length",), wrap=("languages", "description")
        )
    )
    if not described:
        note("a wider terminal shows descriptions, and so does `rerank models NAME`")
    if conflicts:
        claims = ", ".join(f"{name} ({', '.join(owners)})" for name, owners in conflicts.items())
        warn(f"claimed by several plugins, so say plugin:name: {claims}")


def _tell(facts: Mapping[str, Any]) -> None:
    rows = [
        (key, (", ".join(map(str, value)) if isinstance(value, list) else str(value or "")) or "-")
        for key, value in facts.items()
        if key != "options" and (value or key != "contested")
    ]
    show(table(("fact", "value"), rows, wrap=("value",)))
    if not facts["options"]:
        note("no options beyond the common ones, see `rerank rank --help`")
        return
    options = [
        (
            option["name"],
            " | ".join(map(str, option["choices"])) or option["type"],
            _shown(option["default"]),
            option["when"],
            option["help"],
        )
        for option in facts["options"]
    ]
    typer.echo()
    show(table(("option", "value", "default", "when", "help"), options, wrap=("value", "default", "help")))


def _shown(default: object) -> str:
    if default is None or default == "":
        return "-"
    return ", ".join(map(str, default)) if isinstance(default, tuple) else str(default)
