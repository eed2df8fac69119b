"""``rerank models`` and ``rerank plugins``: list what is installed, without importing torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeAlias

import typer

from rerank_core.cli.model_filters import ModelFilters, size_of, size_text
from rerank_core.cli.options import AsJson
from rerank_core.cli.output import emit_json, note, show, table, terminal_width, warn
from rerank_core.plugins import registry
from rerank_core.plugins.discovery import PluginRecord
from rerank_core.plugins.registry import Registry
from rerank_core.spec import ModelSpec
from rerank_core.spec.license import is_non_commercial

__all__ = ["models", "plugins"]

_MIN_DESCRIPTION_WIDTH = 30
"""Narrowest column of descriptions, in characters; below it the column is left out."""
_Claim: TypeAlias = tuple[PluginRecord | None, ModelSpec]


def models(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Show all facts and options of this model.")
    ] = None,
    search: Annotated[
        str | None,
        typer.Option(metavar="WORDS", help="Only models with these words in name, hub id, description or licence."),
    ] = None,
    language: Annotated[
        str | None,
        typer.Option(metavar="CODE", help="Only models for this language, such as zh, and multilingual ones."),
    ] = None,
    license_: Annotated[
        str | None, typer.Option("--license", metavar="TEXT", help="Only models whose licence's name holds this text.")
    ] = None,
    commercial: Annotated[
        bool, typer.Option("--commercial", help="Leave out models whose licence allows no commercial use.")
    ] = False,
    max_size: Annotated[
        str | None,
        typer.Option(metavar="COUNT", help="Only models with at most so many weights, such as 600M or 1.5B."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the installed models, or show all facts and options of one.

    \b
    Examples:
      rerank models
      rerank models mini
      rerank models --language zh --max-size 600M --commercial
      rerank models --json | jq -r '.models[].name'
    """
    known = registry.default()
    claims: list[_Claim] = [(plugin, spec) for plugin in known.plugins for spec in plugin.models]
    claims.sort(key=lambda claim: claim[1].name)
    filters = ModelFilters(search, language, license_, commercial, None if max_size is None else size_of(max_size))
    if name is not None:
        if filters:
            raise typer.BadParameter(f"the filters choose from the list; leave them out to see {name!r} alone")
        spec = known.resolve(name)
        # Two plugins may register equal specs, so compare by identity. The spec of a directory has no plugin.
        claims = [claim for claim in claims if claim[1] is spec] or [(None, spec)]
    every, claims = claims, [claim for claim in claims if filters.passes(claim[1])]
    if as_json:
        emit_json({"schema_version": 1, "models": [_facts(known, plugin, spec) for plugin, spec in claims]})
    elif every and not claims:
        warn(f"none of the {len(every)} installed models passes these filters")
    elif name is None:
        _show_list(known, claims)
    else:
        _show_model(_facts(known, *claims[0]))
    broken = [plugin.name for plugin in known.plugins if plugin.status not in ("ok", "disabled")]
    if broken and not as_json:
        warn(f"these plugins failed to load, so their models are missing: {', '.join(broken)}; see `rerank doctor`")


def plugins(as_json: AsJson = False) -> None:
    """List the installed plugins with their status and errors.

    \b
    Examples:
      rerank plugins
      rerank plugins --json | jq '.plugins[] | select(.status != "ok")'
    """
    installed = registry.default().plugins
    if as_json:
        emit_json({"schema_version": 1, "plugins": [_record(plugin) for plugin in installed]})
        return
    rows = [
        (p.name, p.distribution, p.version, p.status, str(len(p.models)) if p.status == "ok" else "", p.error)
        for p in installed
    ]
    if not rows:
        warn("no plugin is installed; `pip install rerank-mini` installs a small model")
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


def _show_list(known: Registry, claims: Sequence[_Claim]) -> None:
    if not claims:
        warn("no model is installed; `pip install rerank-mini` installs a small one")
        return
    conflicts = known.conflicts()
    rows = [
        (
            # Where several plugins register a name, only plugin:name loads the model.
            f"{plugin.name}:{spec.name} (contested)" if plugin and spec.name in conflicts else spec.name,
            plugin.name if plugin else "",
            spec.head.kind if spec.head else "own code",
            size_text(spec.parameters),
            str(spec.max_length),
            " ".join(spec.languages),
            f"{spec.license} (non-commercial)" if is_non_commercial(spec.license) else spec.license,
            spec.description,
        )
        for plugin, spec in claims
    ]
    headers = ("name", "plugin", "head", "size", "max_length", "languages", "license", "description")
    width = terminal_width()
    needed = sum(2 + max(len(cell) for cell in column) for column in zip(headers, *rows, strict=True))
    with_description = width is None or needed - max(len(row[-1]) for row in rows) + _MIN_DESCRIPTION_WIDTH <= width
    columns = slice(None) if with_description else slice(-1)
    show(
        table(
            headers[columns],
            [row[columns] for row in rows],
            right=("size", "max_length"),
            wrap=("languages", "license", "description"),
        )
    )
    if not with_description:
        note("descriptions are shown in a wider terminal and by `rerank models NAME`")
    if conflicts:
        contested = ", ".join(f"{name} ({', '.join(owners)})" for name, owners in conflicts.items())
        warn(f"registered by several plugins, so load them as plugin:name: {contested}")


def _show_model(facts: Mapping[str, Any]) -> None:
    rows = [
        (key, (", ".join(map(str, value)) if isinstance(value, list) else str(value or "")) or "-")
        for key, value in facts.items()
        if key != "options" and (value or key != "contested")
    ]
    show(table(("fact", "value"), rows, wrap=("value",)))
    if not facts["options"]:
        note("this model has no options of its own; `rerank rank --help` lists the common ones")
        return
    options = [
        (
            option["name"],
            " | ".join(map(str, option["choices"])) or option["type"],
            _default_text(option["default"]),
            option["when"],
            option["help"],
        )
        for option in facts["options"]
    ]
    typer.echo()
    show(table(("option", "value", "default", "when", "help"), options, wrap=("value", "default", "help")))


def _default_text(default: object) -> str:
    if default is None or default == "":
        return "-"
    return ", ".join(map(str, default)) if isinstance(default, tuple) else str(default)
