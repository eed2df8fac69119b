"""The entry points by which installed distributions declare plugins."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from rerank_core.plugins import hookspecs

if TYPE_CHECKING:
    from importlib.metadata import Distribution, EntryPoint

__all__ = ["distribution_of", "entry_points", "normalized_name"]


def entry_points() -> tuple[list[EntryPoint], dict[str, Exception]]:
    """The entry points of group ``rerank_core``, and the distributions with unreadable metadata: ``{name: error}``."""
    # Importing it takes as long as the rest of the core, and a process that loads no model does not need it.
    from importlib import metadata

    try:
        return _distinct(metadata.entry_points(group=hookspecs.GROUP)), {}
    except Exception:  # noqa: BLE001 -- a file of one distribution is damaged, so each distribution is read alone
        results: dict[str, tuple[str, list[EntryPoint] | Exception]] = {}
        for distribution in metadata.distributions():
            name, result = _points_of(distribution)
            # As in importlib, the first distribution of a name on the path counts.
            results.setdefault(normalized_name(name), (name, result))
        points = [point for _, result in results.values() if isinstance(result, list) for point in result]
        return _distinct(points), {name: result for name, result in results.values() if isinstance(result, Exception)}


def _points_of(distribution: Distribution) -> tuple[str, list[EntryPoint] | Exception]:
    """The name of a distribution, and its entry points of group ``rerank_core`` or the error of reading them."""
    name = "unknown"
    try:
        name = str(distribution.metadata["Name"])
        return name, list(distribution.entry_points.select(group=hookspecs.GROUP))
    except Exception as error:  # noqa: BLE001 -- Python versions raise different errors for damaged metadata
        return name, error


def _distinct(points: Iterable[EntryPoint]) -> list[EntryPoint]:
    """The entry points without those of a distribution that is on the path twice (an editable install and a wheel); the
    first one counts."""
    seen: dict[tuple[str, str], EntryPoint] = {}
    for point in points:
        seen.setdefault((normalized_name(distribution_of(point)[0]), point.name), point)
    return sorted(seen.values(), key=lambda point: point.name)


def distribution_of(point: EntryPoint) -> tuple[str, str]:
    """Name and version of an entry point's distribution; ``unknown`` where its metadata is broken."""
    values = []
    for part in ("name", "version"):
        try:
            value = getattr(point.dist, part)
        except Exception:  # noqa: BLE001 -- Python versions raise different errors for broken metadata
            value = None
        values.append(value if isinstance(value, str) and value else "unknown")
    return values[0], values[1]


def normalized_name(name: str) -> str:
    """The name of a distribution, normalized for comparison as in PEP 503."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()
