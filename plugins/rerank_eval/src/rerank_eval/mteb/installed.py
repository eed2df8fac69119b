"""Whether mteb is there."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from rerank_core import MissingDependencyError

__all__ = ["need_mteb"]


def need_mteb(otherwise: str = "") -> None:
    """Check that mteb 2 can be imported.

    Args:
        otherwise: how the caller can do without it, for the message.

    Raises:
        MissingDependencyError: it is not installed, or is another version.
    """
    hint = f"pip install 'rerank-eval[mteb]' (Python 3.11 or newer){otherwise and f', or {otherwise}'}"
    try:
        found = version("mteb")
    except PackageNotFoundError as error:
        raise MissingDependencyError(f"mteb is not installed: {hint}") from error
    if not found.startswith("2."):
        raise MissingDependencyError(f"mteb {found} is installed, and this needs mteb 2: {hint}")
