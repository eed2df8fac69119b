"""Which installed distributions say that they bring a plugin."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from rerank_core.plugins import hookspecs

if TYPE_CHECKING:
    from importlib.metadata import Distribution, EntryPoint

__all__ = ["distribution_of", "entry_points", "normalized_name"]


def entry_points() -> tuple[list[EntryPoint], dict[str, Exception]]:
    """The entry points of our group, and by their names the distributions whose metadata cannot be read."""
    # Costs as much to import as the rest of the core; a process that loads nothing does not need it.
    from importlib import metadata

    try:
        return _distinct(metadata.entry_points(group=hookspecs.GROUP)), {}
    except Exception:  # noqa: BLE001 -- one damaged file of any distribution; then each is read on its own
        found: dict[str, tuple[str, list[EntryPoint] | Exception]] = {}
        for distribution in metadata.distributions():
            name, answer = _points_of(distribution)
            # The first of a name on the path counts, as it does for importlib.
            found.setdefault(normalized_name(name), (name, answer))
        points = [point for _, answer in found.values() if isinstance(answer, list) for point in answer]
        return _distinct(points), {name: answer for name, answer in found.values() if isinstance(answer, Exception)}


def _points_of(distribution: Distribution) -> tuple[str, list[EntryPoint] | Exception]:
    """The name of a distribution, and its entry points of our group or what keeps them from being read."""
    name = "unknown"
    try:
        name = str(distribution.metadata["Name"])
        return name, list(distribution.entry_points.select(group=hookspecs.GROUP))
    except Exception as error:  # noqa: BLE001 -- each Python finds other words for damaged metadata
        return name, error


def _distinct(points: Iterable[EntryPoint]) -> list[EntryPoint]:
    """The same distribution may be on the path twice (an editable install and a wheel); the first one counts."""
    seen: dict[tuple[str, str], EntryPoint] = {}
    for point in points:
        seen.setdefault((normalized_name(distribution_of(point)[0]), point.name), point)
    return sorted(seen.values(), key=lambda point: point.name)


def distribution_of(point: EntryPoint) -> tuple[str, str]:
    """Name and version of the distribution that an entry point is of; ``unknown`` where its metadata is broken."""
    found = []
    for part in ("name", "version"):
        try:
            value = getattr(point.dist, part)
        except Exception:  # noqa: BLE001 -- each Python finds other words for a METADATA file that is missing or damaged
            value = None
        found.append(value if isinstance(value, str) and value else "unknown")
    return found[0], found[1]


def normalized_name(name: str) -> str:
    """Names of distributions as packaging compares them (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()
