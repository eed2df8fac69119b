"""`cpu_quota`: how many CPUs the control groups of Linux let this process use, as container engines set them."""

from __future__ import annotations

import functools
import math
from pathlib import Path

__all__ = ["cpu_quota"]


@functools.cache  # several questions a call, each of which would read a dozen files
def cpu_quota(root: Path = Path("/")) -> int | None:
    """The number of CPUs, at least 1 and rounded up; None without a limit, or outside Linux.

    A container sees its own group at the root of the control groups, or else the groups above it; the smallest limit
    counts.

    Args:
        root: the root of the file system, for tests.
    """
    limits = [limit for folder in _folders(root) if (limit := _limit(folder)) is not None]
    return max(1, math.ceil(min(limits))) if limits else None


def _folders(root: Path) -> list[Path]:
    """The folders of the process's group and of those above it, of both versions of control groups."""
    groups = root / "sys/fs/cgroup"
    found = [groups, groups / "cpu", groups / "cpu,cpuacct"]
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return found
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        base = groups / controllers
        inside = base / path.lstrip("/")
        found += [folder for folder in (inside, *inside.parents) if folder.is_relative_to(base)]
    return found


def _limit(folder: Path) -> float | None:
    """CPUs of one group: quota by period, both in microseconds."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()[:2]
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text(encoding="utf-8")
            period = (folder / "cpu.cfs_period_us").read_text(encoding="utf-8")
        limit = float(quota) / float(period)
    except (OSError, ValueError, ZeroDivisionError):  # no limit ("max"), or no such group
        return None
    return limit if limit > 0 else None
