"""Adds teacher scores to rows, with any reranker that `rerank_core.load` opens.

The teacher is a cross-encoder or LLM reranker whose scores are distilled into a smaller model, or a chat model that
judges relevance ("llm:...") or orders lists (LLM preferences). Scores are raw by default, because distillation losses
apply their own temperature.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from rerank_core.records.training_row import TrainingRow
from rerank_core.reranker import Reranker
from rerank_trainers.teachers.scores import ScoreRequest, follows_instructions, row_name, score_requests

__all__ = ["LabellingStatistics", "label"]

_LOG = logging.getLogger("rerank_trainers")


@dataclass
class LabellingStatistics:
    """Statistics of `label`, filled while it runs.

    Attributes:
        model: name of the teacher.
        score_space: kind of the scores; ``rank`` is minus the rank given by a listwise model, which has no scores.
        rows, documents: number of labelled rows and documents.
        lowest, highest: lowest and highest score; None before the first.
        mean: mean score.
        truncated_documents: documents that the teacher did not read to the end.
        truncated_queries: queries that ``max_query_length`` truncated.
        replaced: rows whose existing scores were replaced.
        instructions_ignored: rows with an instruction, if the teacher does not take instructions.
        answers: answers of a listwise model that reports them; each orders one window of documents.
        malformed_answers: answers that were not a complete order. Documents that an answer leaves out follow in the
            random order in which they were shown.
        unread_answers: malformed answers that named no document, so the order of the window is random.
        thoughts: answers that contained reasoning, which is not read.
    """

    model: str | None = None
    score_space: str | None = None
    rows: int = 0
    documents: int = 0
    lowest: float | None = None
    highest: float | None = None
    mean: float = 0.0
    truncated_documents: int = 0
    truncated_queries: int = 0
    replaced: int = 0
    instructions_ignored: int = 0
    answers: int = 0
    malformed_answers: int = 0
    unread_answers: int = 0
    thoughts: int = 0

    @property
    def malformed_share(self) -> float | None:
        """The fraction of malformed answers; None if the teacher reports no answers."""
        return self.malformed_answers / self.answers if self.answers else None

    @property
    def malformed_warning(self) -> str:
        """A warning about the malformed answers."""
        return (
            f"{self.malformed_answers} of {self.answers} answers of {self.model!r} were malformed, and "
            f"{self.unread_answers} named no document: documents that an answer leaves out are in random order. Use a "
            "larger chat model, or mode='first-token' with a local one"
        )

    def to_dict(self) -> dict[str, Any]:
        """The statistics as JSON values."""
        return {**asdict(self), "malformed_share": self.malformed_share}


def label(
    rows: Iterable[TrainingRow],
    reranker: Reranker,
    *,
    activation: str = "none",
    start: int = 0,
    together: int = 1024,
    seed: int = 0,
    statistics: LabellingStatistics | None = None,
    **options: Any,
) -> Iterator[TrainingRow]:
    """Yield the rows in order with the reranker's scores, in bounded memory; other fields stay unchanged.

    Args:
        activation: ``none`` (raw scores), ``sigmoid`` (logits to (0, 1)) or ``default`` (that of the model).
        start: skip the rows before this index, which an interrupted run has labelled. Batches stay the same, so scores
            are bit-equal to those of an uninterrupted run.
        together: minimum number of documents that are scored in one call.
        seed: seed of the random order in which a listwise model gets the documents of a row.
        statistics: filled while rows are yielded; without it, malformed answers are reported in the log.
        options: ``longdoc``, ``overlap`` and call options of the model; the instruction of a row overrides one here.

    Raises:
        InputError: an invalid query or option, or a cascade, whose scores are not comparable.
        NonFiniteScoreError: the teacher gave NaN or infinity; the message names the rows.
    """
    figures = statistics if statistics is not None else LabellingStatistics()
    figures.model = reranker.spec.name
    for first, block in _blocks(rows, together):
        if first + len(block) <= start:
            continue
        requests = [
            ScoreRequest(row.query, row.texts, row.instruction, row_name(row, index))
            for index, row in enumerate(block, start=first)
        ]
        results = score_requests(requests, reranker, activation=activation, seed=seed, **options)
        for index, (row, result) in enumerate(zip(block, results, strict=True), start=first):
            if index < start:
                continue
            figures.score_space = result.space
            figures.truncated_documents += result.truncated
            figures.truncated_queries += result.query_truncated
            _count(figures, row, result.scores, takes_instructions=follows_instructions(reranker))
            _count_answers(figures, result.statistics)
            yield replace(row, scores=tuple(result.scores))
    if statistics is None and figures.malformed_answers:
        _LOG.warning("%s", figures.malformed_warning)


def _blocks(rows: Iterable[TrainingRow], together: int) -> Iterator[tuple[int, list[TrainingRow]]]:
    """Consecutive rows with at least ``together`` documents in all, and the index of their first row."""
    first, block, documents = 0, list[TrainingRow](), 0
    for row in rows:
        block.append(row)
        documents += len(row.docs)
        if documents >= together:
            yield first, block
            first, block, documents = first + len(block), [], 0
    if block:
        yield first, block


def _count(
    figures: LabellingStatistics, row: TrainingRow, scores: Iterable[float], *, takes_instructions: bool
) -> None:
    figures.rows += 1
    figures.replaced += row.scores is not None
    figures.instructions_ignored += row.instruction is not None and not takes_instructions
    for score in scores:
        figures.documents += 1
        figures.lowest = score if figures.lowest is None else min(figures.lowest, score)
        figures.highest = score if figures.highest is None else max(figures.highest, score)
        figures.mean += (score - figures.mean) / figures.documents


def _count_answers(figures: LabellingStatistics, statistics: Mapping[str, Any]) -> None:
    """Add the answer counts that a listwise model reports for a row."""
    answers = int(statistics.get("windows", 0))
    figures.answers += answers
    figures.malformed_answers += answers - int(statistics.get("well_formed", answers))
    figures.unread_answers += int(statistics.get("unread", 0))
    figures.thoughts += int(statistics.get("thoughts", 0))
