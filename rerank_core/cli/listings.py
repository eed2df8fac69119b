"""``rerank models`` and ``rerank plugins``: what is installed. Neither imports torch."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from rerank_core import registry
from rerank_core.cli.output import AsJson, console, emit_json, table, warn
from rerank_core.registry import PluginRecord, Registry
from rerank_core.spec import ModelSpec

__all__ = ["models", "plugins"]


def models(
    name: Annotated[
        str | None, typer.Argument(help="Show all facts and options of this one.", show_default=False)
    ] = None,
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
    if name is None:
        found = [(plugin, spec) for plugin in known.plugins for spec in plugin.models]
        found.sort(key=lambda claim: (claim[1].name, claim[0].name))
    else:
        spec = known.resolve(name)
        found = [(_owner(known, spec), spec)]
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
    console().print(table(("name", "distribution", "version", "status", "models", "error"), rows, right=("models",)))


def _owner(known: Registry, spec: ModelSpec) -> PluginRecord | None:
    """The plugin of this very spec: two plugins may register equal ones."""
    return next((plugin for plugin in known.plugins if any(one is spec for one in plugin.models)), None)


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
    facts = spec.facts()
    for shown, option in zip(facts["options"], spec.options, strict=True):
        shown["choices"] = list(option.choices)
    return {
        **facts,
        "plugin": plugin.name if plugin else None,
        "distribution": plugin.distribution if plugin else None,
        "contested": [name for name in spec.names if name in conflicts],
    }


def _list(known: Registry, found: list[tuple[PluginRecord | None, ModelSpec]]) -> None:
    if not found:
        warn("no model is installed; `pip install rerank-mini` brings a first one")
        return
    rows = []
    contested = False
    for plugin, spec in found:
        facts = _facts(known, plugin, spec)
        # Where several plugins claim a name, the longer one is the one that works.
        name = f"{facts['plugin']}:{spec.name} (contested)" if spec.name in facts["contested"] else spec.name
        contested = contested or bool(facts["contested"])
        rows.append(
            (
                name,
                facts["plugin"] or "",
                facts["head"] or "own code",
                str(spec.max_length),
                " ".join(spec.languages),
                spec.license,
                spec.description,
            )
        )
    headers = ("name", "plugin", "head", "max_length", "languages", "license", "description")
    console().print(table(headers, rows, right=("max_length",)))
    if contested:
        claims = ", ".join(f"{name} ({', '.join(owners)})" for name, owners in known.conflicts().items())
        warn(f"claimed by several plugins, so say plugin:name: {claims}")


def _tell(facts: dict[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for key, value in facts.items():
        if key == "options" or (key == "contested" and not value):
            continue
        shown = ", ".join(map(str, value)) if isinstance(value, list) else value
        grid.add_row(Text(key), Text("-" if shown in (None, "") else str(shown)))
    screen = console()
    screen.print(grid)
    if not facts["options"]:
        screen.print("\nno options beyond the common ones (`rerank rank --help`)")
        return
    rows = [
        (
            option["name"],
            " | ".join(map(str, option["choices"])) or option["type"],
            "-" if option["default"] is None else str(option["default"]),
            option["when"],
            option["help"],
        )
        for option in facts["options"]
    ]
    screen.print()
    screen.print(table(("option", "value", "default", "when", "help"), rows))
