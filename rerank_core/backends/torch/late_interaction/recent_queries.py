"""`RecentQueries`: embeddings of the last queries, so that the batches of a call do not each encode its query."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TypeAlias

from rerank_core.backends.fork_safety import Lock
from rerank_core.backends.torch.late_interaction.embeddings import Embedding
from rerank_core.scorer import QueryRow

__all__ = ["RecentQueries"]

_MOST = 256
"""Embeddings that are kept; 4 MB of 32 vectors of width 128."""

_Key: TypeAlias = tuple[tuple[int, ...], int | None]


class RecentQueries:
    """The embeddings of the queries that a scorer encoded last, by their tokens."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._known: OrderedDict[_Key, Embedding] = OrderedDict()

    def encoded(
        self, encode: Callable[[Sequence[QueryRow]], list[Embedding]], queries: Sequence[QueryRow]
    ) -> list[Embedding]:
        """The embedding of each query; ``encode`` is called once with those that are not known, if there are any."""
        keys = [(tuple(query.ids), query.attended) for query in queries]
        with self._lock:
            found = {key: self._known[key] for key in keys if key in self._known}
            for key in found:
                self._known.move_to_end(key)
        missing = {key: query for key, query in zip(keys, queries, strict=True) if key not in found}
        if missing:
            new = dict(zip(missing, encode(list(missing.values())), strict=True))
            found.update(new)
            with self._lock:
                self._known.update(new)
                while len(self._known) > _MOST:
                    self._known.popitem(last=False)
        return [found[key] for key in keys]
