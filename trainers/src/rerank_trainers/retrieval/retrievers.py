"""What finds candidates: anything that scores every text of the corpus for a query."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy

from rerank_core.reranker import Reranker
from rerank_trainers.teachers.scores import follows_instructions

__all__ = ["LateInteractionRetriever", "Retriever", "best_first"]

Scores = numpy.ndarray[Any, Any]


class Retriever(Protocol):
    """Scores every text of a corpus.

    Attributes:
        floor: a text with no more than this score is not found at all.
    """

    floor: float

    def scores(self, query: str, instruction: str | None = None) -> Scores:
        """``[texts]``: higher is better."""
        ...


class LateInteractionRetriever:
    """A late-interaction model over the whole corpus: texts are encoded once, each query is compared with all.

    For corpora of a size that this is quick for (some hundred thousand passages on a GPU, fewer on a CPU).

    Args:
        directory: a folder that keeps the embeddings, so that a second run need not encode them.

    Raises:
        InputError: a model that reads query and document together.
    """

    floor = -math.inf

    def __init__(
        self,
        reranker: Reranker,
        texts: Sequence[str],
        directory: str | os.PathLike[str] | None = None,
        *,
        progress: bool = False,
    ) -> None:
        self._reranker = reranker
        self._takes = follows_instructions(reranker)
        self._index = reranker.index(texts, directory, progress=progress)

    def scores(self, query: str, instruction: str | None = None) -> Scores:
        """``[texts]``: raw scores."""
        options = {"instruction": instruction} if self._takes and instruction is not None else {}
        ranking = self._reranker.rerank(query, self._index, activation="none", **options)
        return numpy.array(ranking.scores())


def best_first(scores: Scores, floor: float) -> Iterator[int]:
    """Places by falling score, equal ones in the order of the corpus, as far as they are above the floor.

    Sorts no more than a caller reads (twice as much each time), since candidates are few and a corpus is large.

    >>> list(best_first(numpy.array([0.5, 2.0, 0.0, 2.0]), floor=0.0))
    [1, 3, 0]
    """
    count, given = 256, 0
    while given < len(scores):
        if count < len(scores):
            least = numpy.partition(scores, len(scores) - count)[len(scores) - count]
            some = numpy.flatnonzero(scores >= least)
        else:
            some = numpy.arange(len(scores))
        ordered = some[numpy.argsort(-scores[some], kind="stable")]
        for place in ordered[given:].tolist():
            if scores[place] <= floor:
                return
            yield place
        count, given = 2 * len(ordered), len(ordered)
