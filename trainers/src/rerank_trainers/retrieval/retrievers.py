"""Retrievers, which score every text of a corpus for a query."""

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
        floor: texts whose score is not above it are no search results.
    """

    floor: float

    def scores(self, query: str, instruction: str | None = None) -> Scores:
        """``[texts]``: higher is better."""
        ...


class LateInteractionRetriever:
    """Searches with an embedding or late-interaction model: texts are encoded once, every query is compared with all.

    Fast enough for some hundred thousand passages on a GPU, fewer on a CPU.

    Args:
        directory: folder in which embeddings are stored, so that a second run does not encode the texts again.

    Raises:
        InputError: the model reads query and document together (a cross-encoder), so texts have no encoding
            without a query.
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
        self._takes_instruction = follows_instructions(reranker)
        self._index = reranker.index(texts, directory, progress=progress)

    def scores(self, query: str, instruction: str | None = None) -> Scores:
        """``[texts]``: raw scores."""
        options = {"instruction": instruction} if self._takes_instruction and instruction is not None else {}
        ranking = self._reranker.rerank(query, self._index, activation="none", **options)
        return numpy.array(ranking.scores())


def best_first(scores: Scores, floor: float) -> Iterator[int]:
    """Corpus positions with scores above ``floor``, by descending score; equal scores keep the order of the corpus.

    Sorts only as far as the caller reads, doubling the number each time, since the corpus is large.

    >>> list(best_first(numpy.array([0.5, 2.0, 0.0, 2.0]), floor=0.0))
    [1, 3, 0]
    """
    count, yielded = 256, 0
    while yielded < len(scores):
        if count < len(scores):
            threshold = numpy.partition(scores, len(scores) - count)[len(scores) - count]
            top = numpy.flatnonzero(scores >= threshold)
        else:
            top = numpy.arange(len(scores))
        ordered = top[numpy.argsort(-scores[top], kind="stable")]
        for position in ordered[yielded:].tolist():
            if scores[position] <= floor:
                return
            yield position
        count, yielded = 2 * len(ordered), len(ordered)
