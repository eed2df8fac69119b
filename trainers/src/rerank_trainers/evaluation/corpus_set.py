"""A dev set whose queries search a whole corpus, with the model in training as the retriever.

Ties are broken against the model, as in `dev_set`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy

from rerank_core import InputError, Reranker
from rerank_core.errors import short
from rerank_core.measures import measure_orders, parse_metrics
from rerank_core.records.label_scale import LabelScale
from rerank_core.records.training_row import TrainingRow
from rerank_trainers.data.hashing import query_hash
from rerank_trainers.evaluation.result import Result
from rerank_trainers.retrieval.corpus import Corpus
from rerank_trainers.retrieval.retrievers import LateInteractionRetriever

__all__ = ["CORPUS_MEASURES", "CorpusSet"]

CORPUS_MEASURES = ("nDCG@10", "R@100", "RR@10")

# Documents read by a metric without a cutoff, such as AP.
_DEPTH = 1000


class CorpusSet:
    """Queries with their relevant documents in a corpus. Rows of one query and instruction are one query.

    Attributes:
        gains: for each query, the gain of each relevant document by its position in the corpus.
        left_out: number of queries without a relevant document.
        rank, world: see `DevSet`.

    Args:
        rows: rows with labels, whose relevant documents are texts of the corpus.
        scale: maps labels to gains; by default a label is its gain.

    Raises:
        InputError: a row without labels, a relevant document that is not in the corpus, or no relevant document at all.
    """

    def __init__(
        self,
        rows: Sequence[TrainingRow],
        corpus: Corpus,
        measures: Sequence[str] = CORPUS_MEASURES,
        *,
        scale: LabelScale | None = None,
    ) -> None:
        gain = (scale or LabelScale()).gain
        self.measures = parse_metrics(measures)
        self.corpus, self.rank, self.world = corpus, 0, 1
        found: dict[int, tuple[TrainingRow, dict[int, float]]] = {}
        for row in rows:
            if row.labels is None:
                raise InputError(f"{row.id}: a dev set needs labels, and this row ({short(row.query)}) has none")
            _, gains = found.setdefault(query_hash(row.query, row.instruction), (row, {}))
            for doc, label in zip(row.docs, row.labels, strict=True):
                if gain(label) <= 0:
                    continue
                position = corpus.position(doc)
                if position is None:
                    raise InputError(
                        f"{row.id}: its relevant document {short(doc)} is not in the corpus, so no search can find it; "
                        "add the text to the corpus, or correct the row"
                    )
                gains[position] = max(gain(label), gains.get(position, 0.0))
        self.rows = [row for row, gains in found.values() if gains]
        self.gains = [gains for _, gains in found.values() if gains]
        self.left_out = len(found) - len(self.rows)
        if not self.rows:
            raise InputError(f"none of {len(found)} dev queries has a relevant document")
        cutoffs = [measure.params.get("cutoff") or _DEPTH for measure in self.measures]
        self._depth = min(len(corpus), max(cutoffs, default=1))

    def evaluate(self, reranker: Reranker) -> Result:
        """Encode the corpus with the model, search it with every query and compute the metrics.

        Raises:
            InputError: a model that reads query and document together, which encodes no document alone.
        """
        try:
            retriever = LateInteractionRetriever(reranker, self.corpus.texts)
        except InputError as error:
            raise InputError(
                f"{reranker.spec.name!r} cannot search the corpus of a dev set: {error}. Rank candidates instead: rows "
                "with documents, such as those of `rerank train mine`, as data.eval: {NAME: FILE}"
            ) from error
        orders: dict[int, list[int]] = {}
        for at in range(self.rank, len(self.rows), self.world):
            row = self.rows[at]
            orders[at] = self._order(retriever.scores(row.query, row.instruction), self.gains[at])
        if self.world > 1:
            from accelerate.utils import gather_object

            orders = {at: order for some in gather_object([orders]) for at, order in some.items()}
        queries = measure_orders(self.measures, self.gains, [orders[at] for at in range(len(self.rows))])
        return Result({name: sum(values) / len(values) for name, values in queries.items()}, queries)

    def _order(self, scores: Any, gains: dict[int, float]) -> list[int]:
        """The best documents; of equal scores the irrelevant ones first."""
        depth = self._depth
        candidates = numpy.arange(len(scores))
        if depth < len(scores):
            candidates = numpy.flatnonzero(scores >= numpy.partition(scores, len(scores) - depth)[len(scores) - depth])
        own = numpy.array([gains.get(int(doc), 0.0) for doc in candidates])
        order: list[int] = candidates[numpy.lexsort((candidates, own, -scores[candidates]))][:depth].tolist()
        return order
