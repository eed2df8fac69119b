"""The libraries of the extra ``eval``: they are imported where they are used, and a missing one is named."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rerank_core.errors import MissingDependencyError

__all__ = ["needed_for"]


@contextmanager
def needed_for(what: str) -> Iterator[None]:
    """Put this around imports of libraries.

    Args:
        what: the work that needs them, in the plural, for the message: ``"metrics"``.

    Raises:
        MissingDependencyError: one of them is not installed; the message has the install command.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"{what} need {error.name}, which is not installed: pip install 'rerank-core[eval]'"
        ) from error
