"""The error classes of this library, and helpers for their messages.

    RerankError
    ├── InputError(ValueError)              a query, document or option is invalid
    ├── UnknownModelError(LookupError)      no plugin, directory or hub id has this name
    ├── PluginError                         an installed plugin broke its contract
    │   ├── PluginLoadError                 importing or registering it failed
    │   └── DuplicateModelError             two plugins claim one model name
    ├── CheckpointError                     the files of a model are missing, wrong or incomplete
    ├── IndexStoreError                     an index on disk is damaged, or not this model's
    ├── MissingDependencyError(ImportError) a package that this model needs is not installed
    └── NonFiniteScoreError                 the model produced NaN or an infinity

A message says what happened, shows the value at fault and says how to fix it.
"""

from __future__ import annotations

import operator
import reprlib
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

__all__ = [
    "CheckpointError",
    "DuplicateModelError",
    "IndexStoreError",
    "InputError",
    "MissingDependencyError",
    "NonFiniteScoreError",
    "PluginError",
    "PluginLoadError",
    "RerankError",
    "UnknownModelError",
]


def short(value: object) -> str:
    """``repr`` for a message, shortened, so that logs and servers do not repeat whole documents."""
    clipped = reprlib.Repr()
    clipped.maxstring = clipped.maxother = 80
    clipped.maxlong = 40
    return clipped.repr(value)


def one_of(value: object, valid: Sequence[str | None], what: str) -> None:
    """Raise InputError if ``value`` is not one of the valid values; ``what`` names the value in the message."""
    # Only strings are compared: comparing an array gives an array, which has no truth value.
    if (value is not None and not isinstance(value, str)) or value not in valid:
        raise InputError(f"{what} is {short(value)}; it must be one of {', '.join(map(repr, valid))}")


def check_flag(name: str, value: object) -> None:
    """Raise InputError if ``value`` is neither True nor False."""
    if not isinstance(value, bool):
        raise InputError(f"{name} is {short(value)}; it must be True or False")


def check_count(name: str, value: Any, minimum: int) -> int | None:
    """``value`` as an int (it may be a numpy integer), or None.

    Raises:
        InputError: ``value`` is neither None nor an integer of at least ``minimum``.
    """
    if value is None:
        return None
    try:
        count = minimum - 1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        count = minimum - 1
    if count < minimum:
        raise InputError(f"{name} is {short(value)}; it must be an integer of at least {minimum}")
    return count


def near_matches(word: object, valid: Iterable[str], most: int = 1) -> list[str]:
    """At most ``most`` of the valid names that are spelt like ``word``, the nearest first, for "Did you mean ...?".

    Case is ignored.

    >>> near_matches("Laier", ["layer", "cascade"])
    ['layer']
    """
    import difflib  # takes 10 ms, and importing rerank_core does not need it

    by_lower_case = {name.lower(): name for name in valid}
    return [by_lower_case[near] for near in difflib.get_close_matches(str(word).lower(), by_lower_case, n=most)]


_E = TypeVar("_E", bound=Exception)


def with_context(error: _E, where: str) -> _E:
    """The same error with ``where`` before its message; an error of another library gets a note instead (Python 3.11
    and later)."""
    if isinstance(error, RerankError):
        message = f"{where}: {error}"
        error.args = (message, *error.args[1:])
        if isinstance(error, ImportError):
            error.msg = message
    elif hasattr(error, "add_note"):
        error.add_note(f"This came from {where}.")
    return error


class RerankError(Exception):
    """The base class of this library's errors."""


class InputError(RerankError, ValueError):
    """A query, document or option is invalid."""


class UnknownModelError(RerankError, LookupError):
    """No installed plugin, directory or hub id has this name."""


class PluginError(RerankError):
    """An installed plugin, or a scorer that it built, broke its contract."""


class PluginLoadError(PluginError):
    """A plugin could not be imported or registered; ``rerank doctor`` shows its traceback."""


class DuplicateModelError(PluginError):
    """Two installed plugins register one model name; write ``plugin:name`` to choose one."""


class CheckpointError(RerankError):
    """The files of a model are missing, wrong or incomplete."""


class IndexStoreError(RerankError):
    """A folder of document embeddings is damaged, or was made by another model or with other settings."""


class MissingDependencyError(RerankError, ImportError):
    """A package that this model needs is not installed; the message has the install command."""


class NonFiniteScoreError(RerankError):
    """The model produced NaN or an infinity, so the documents cannot be ranked.

    Attributes:
        documents: ``(query, document)`` positions in the caller's lists; for ``score``, ``(pair, 0)``.
    """

    def __init__(self, message: str, documents: Sequence[tuple[int, int]] = ()) -> None:
        super().__init__(message)
        self.documents = tuple(documents)

    def __reduce__(self) -> tuple[type[NonFiniteScoreError], tuple[str, tuple[tuple[int, int], ...]]]:
        return type(self), (str(self), self.documents)
