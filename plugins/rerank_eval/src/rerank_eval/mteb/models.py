"""What `mteb.evaluate` takes: a class for each of its protocols that our models can fulfil."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from rerank_core import InputError, Reranker
from rerank_eval.mteb.requests import Query, Wording, document_text, pair_scores, request_scores

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["EmbeddingModel", "IndexModel", "ListModel", "MtebModel", "PairModel"]


class MtebModel:
    """A loaded model with its metadata; close it, or use it as a context manager, to free the weights.

    Attributes:
        mteb_model_meta: mteb's `ModelMeta`.
    """

    def __init__(self, reranker: Reranker, meta: Any, wording: Wording) -> None:
        self.reranker, self.mteb_model_meta, self.wording = reranker, meta, wording

    def close(self) -> None:
        """Free the weights."""
        self.reranker.close()

    def __enter__(self) -> MtebModel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.reranker!r}>"

    def _query(self, row: Mapping[str, Any], task_metadata: Any) -> Query:
        return self.wording.query(row, getattr(task_metadata, "prompt", None))


class PairModel(MtebModel):
    """mteb's CrossEncoderProtocol: models that read query and document together."""

    def predict(self, inputs1: Any, inputs2: Any, *, task_metadata: Any, **unused: Any) -> Any:
        """The raw score of each pair, float64 ``[pairs]``.

        Args:
            inputs1: queries, one a pair, in mteb's batches.
            inputs2: documents, in the same order; ``text`` is a document's title and text.
            unused: the split, the subset, and sizes of batches, which the token budget of `load` replaces.
        """
        import numpy as np

        queries = (self._query(row, task_metadata) for row in _rows(inputs1))
        documents = (row["text"] for row in _rows(inputs2))
        return np.asarray(pair_scores(self.reranker, zip(queries, documents, strict=True)), dtype=np.float64)


class _Search(MtebModel):
    """The half of mteb's SearchProtocol that all models share."""

    _corpus: Any = None

    def index(self, corpus: Any, **unused: Any) -> None:
        """Keep the corpus for the next search; its documents are read there."""
        self._corpus = corpus

    def search(
        self,
        queries: Any,
        *,
        task_metadata: Any,
        top_k: int,
        top_ranked: Mapping[str, Sequence[str]] | None = None,
        **unused: Any,
    ) -> dict[str, dict[str, float]]:
        """For each query the scores of its documents, ``{query id: {document id: score}}``.

        Args:
            top_ranked: ids of the candidates of each query, all of which get a score; None to search the whole corpus
                for the ``top_k`` best.

        Raises:
            InputError: the corpus or a candidate is missing, or the model cannot search a corpus.
        """
        if self._corpus is None:
            raise InputError("search is called before index; pass the model to mteb.evaluate, which calls both")
        corpus, self._corpus = self._corpus, None
        rows = ({name: row.get(name) for name in ("id", "text", "instruction")} for row in queries)
        asked = {row["id"]: self._query(row, task_metadata) for row in rows}
        at = {key: position for position, key in enumerate(corpus["id"])}
        wanted: dict[str, list[int]] | None = None
        if top_ranked is not None:
            absent = [key for query in asked for key in top_ranked.get(query, ()) if key not in at]
            if absent:
                raise InputError(f"{len(absent)} candidates are not in the corpus, the first is {absent[0]!r}")
            wanted = {query: [at[key] for key in top_ranked.get(query, ())] for query in asked}
        return self._found(asked, corpus, wanted, top_k)

    def _found(
        self, asked: Mapping[str, Query], corpus: Any, wanted: Mapping[str, Sequence[int]] | None, top_k: int
    ) -> dict[str, dict[str, float]]:
        raise NotImplementedError


class ListModel(_Search):
    """mteb's SearchProtocol for models whose scores order one list and cannot be compared between lists: listwise
    models and cascades. A score is minus the rank."""

    def _found(
        self, asked: Mapping[str, Query], corpus: Any, wanted: Mapping[str, Sequence[int]] | None, top_k: int
    ) -> dict[str, dict[str, float]]:
        if wanted is None:
            name = self.reranker.spec.name
            raise InputError(
                f"{name!r} orders a list of candidates and cannot search a corpus; give it a reranking task, or make "
                "one of a retrieval task: task.convert_to_reranking(PREDICTIONS, top_k=100)"
            )
        lists = {query: wanted[query] for query in asked if wanted[query]}
        requests = ((asked[query], [document_text(corpus[at]) for at in own]) for query, own in lists.items())
        found: dict[str, dict[str, float]] = {query: {} for query in asked}
        for (query, own), scores in zip(lists.items(), request_scores(self.reranker, requests), strict=True):
            found[query] = {corpus[at]["id"]: score for at, score in zip(own, scores, strict=True)}
        return found


class IndexModel(_Search):
    """mteb's SearchProtocol for late interaction: every document is encoded once, for all queries."""

    documents_at_once = 1000
    """Documents whose embeddings are in memory at the same time."""

    def _found(
        self, asked: Mapping[str, Query], corpus: Any, wanted: Mapping[str, Sequence[int]] | None, top_k: int
    ) -> dict[str, dict[str, float]]:
        found: dict[str, dict[str, float]] = {query: {} for query in asked}
        everything = range(len(corpus)) if wanted is None else sorted({at for own in wanted.values() for at in own})
        of_document = None if wanted is None else _queries_of(wanted)
        for start in range(0, len(everything), self.documents_at_once):
            positions = everything[start : start + self.documents_at_once]
            rows = [corpus[at] for at in positions]
            index = self.reranker.index([document_text(row) for row in rows])
            own = (
                {query: range(len(rows)) for query in asked} if of_document is None else _local(positions, of_document)
            )
            requests = (
                (asked[query], index if of_document is None else index.select(local)) for query, local in own.items()
            )
            for (query, local), scores in zip(own.items(), request_scores(self.reranker, requests), strict=True):
                found[query].update(zip((rows[one]["id"] for one in local), scores, strict=True))
                if wanted is None:
                    found[query] = dict(heapq.nlargest(top_k, found[query].items(), key=lambda item: item[1]))
        return found


class EmbeddingModel(IndexModel):
    """mteb's EncoderProtocol and SearchProtocol, for models with one vector a text.

    Retrieval and reranking tasks take the search, which reads long documents whole, in windows; tasks of other
    kinds take vectors, for which a text that is longer than ``max_length`` is cut.
    """

    documents_at_once = 20_000

    def encode(self, inputs: Any, *, task_metadata: Any, prompt_type: Any = None, **unused: Any) -> Any:
        """The vectors, float32 ``[texts, width]``.

        Args:
            prompt_type: ``document``, or the text is encoded as a query.
        """
        import numpy as np

        if unused.get("precision") not in (None, "float32"):
            raise InputError(f"precision is {unused['precision']!r}; vectors are float32")
        if getattr(prompt_type, "value", prompt_type) == "document":
            return self.reranker.encode([row["text"] for row in _rows(inputs)], side="doc")
        queries = [self._query(row, task_metadata) for row in _rows(inputs)]
        parts = [
            self.reranker.encode([one.text for one in own], side="query", **_instructed(instruction))
            for instruction, own in groupby(queries, key=lambda one: one.instruction)
        ]
        return np.concatenate(parts)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """All products, a tensor ``[first, second]``: the scores of `rerank` for texts that fit."""
        import torch

        first, second = (torch.as_tensor(one) for one in (embeddings1, embeddings2))
        return first.reshape(-1, first.shape[-1]) @ second.reshape(-1, second.shape[-1]).T

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """The product of each pair, a tensor ``[pairs]``."""
        import torch

        return (torch.as_tensor(embeddings1) * torch.as_tensor(embeddings2)).sum(-1)


def _rows(batches: Iterable[Mapping[str, Sequence[Any]]]) -> Iterator[dict[str, Any]]:
    """The rows of mteb's batches, which are lists by column."""
    for batch in batches:
        columns = {name: batch[name] for name in ("text", "query", "instruction") if name in batch}
        for values in zip(*columns.values(), strict=True):
            yield dict(zip(columns, values, strict=True))


def _queries_of(wanted: Mapping[str, Sequence[int]]) -> dict[int, list[str]]:
    """The queries of each document, by its position."""
    found: dict[int, list[str]] = {}
    for query, own in wanted.items():
        for at in dict.fromkeys(own):
            found.setdefault(at, []).append(query)
    return found


def _local(positions: Sequence[int], of_document: Mapping[int, Sequence[str]]) -> dict[str, Sequence[int]]:
    """For each query its documents among ``positions``, counted from the first of them."""
    own: dict[str, list[int]] = {}
    for local, at in enumerate(positions):
        for query in of_document[at]:
            own.setdefault(query, []).append(local)
    return dict(own)


def _instructed(instruction: str | None) -> dict[str, str]:
    return {} if instruction is None else {"instruction": instruction}
