"""The CPU quota is read as container engines write it."""

from __future__ import annotations

from pathlib import Path

import pytest

from rerank_core.backends.torch.workers.cpu_quota import cpu_quota


def write(root: Path, **files: str) -> None:
    """Files by path, with ``__`` for a slash and ``_dot_`` for a dot."""
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("200000 100000", 2), ("150000 100000", 2), ("50000 100000", 1), ("max 100000", None), ("", None), ("x y", None)],
)
def test_version_2_inside_a_container(tmp_path: Path, limit: str, expected: int | None) -> None:
    """A container sees its own group at the root; parts of a CPU are rounded up."""
    write(tmp_path, sys__fs__cgroup__cpu_dot_max=limit, proc__self__cgroup="0::/\n")

    assert cpu_quota(tmp_path) == expected


def test_version_2_the_smallest_limit_above_counts(tmp_path: Path) -> None:
    """Outside a container the process is in a group below others, as under systemd or Kubernetes."""
    write(
        tmp_path,
        proc__self__cgroup="0::/kubepods/pod/app\n",
        sys__fs__cgroup__kubepods__cpu_dot_max="800000 100000",
        sys__fs__cgroup__kubepods__pod__cpu_dot_max="300000 100000",
        sys__fs__cgroup__kubepods__pod__app__cpu_dot_max="max 100000",
    )

    assert cpu_quota(tmp_path) == 3


@pytest.mark.parametrize(("quota", "expected"), [("400000", 4), ("-1", None)])
def test_version_1(tmp_path: Path, quota: str, expected: int | None) -> None:
    """Quota and period are files of their own; -1 is no limit."""
    write(
        tmp_path,
        proc__self__cgroup="4:cpu,cpuacct:/docker/abc\n3:memory:/docker/abc\n",
        **{
            "sys__fs__cgroup__cpu,cpuacct__cpu_dot_cfs_quota_us": quota,
            "sys__fs__cgroup__cpu,cpuacct__cpu_dot_cfs_period_us": "100000",
        },
    )

    assert cpu_quota(tmp_path) == expected


def test_no_control_groups(tmp_path: Path) -> None:
    """As on macOS and Windows."""
    assert cpu_quota(tmp_path) is None
