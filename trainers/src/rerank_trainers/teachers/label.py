"""Teachers' scores: any reranker that `rerank_core.load` opens says what each document of a row is worth.

A cross-encoder or an LLM reranker distils into a smaller model; a chat model asked about relevance ("llm:...") is
LLM-preference supervision, and so is one that orders lists. Scores are raw unless asked otherwise: a distillation loss
applies its own temperature.
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
    """What `label` did, filled while it runs.

    Attributes:
        model, score_space: whose scores, and what they are; ``rank`` is minus the rank of a listwise model, which
            orders documents and does not say by how much.
        lowest, highest: scores; None before the first.
        mean: of all scores.
        truncated_documents: of which the teacher did not read everything.
        truncated_queries: that ``max_query_length`` cut.
        replaced: rows that had scores already.
        instructions_ignored: rows with an instruction that the teacher cannot be given.
        answers: of a listwise model that counts its answers; each orders one window of documents.
        malformed_answers: that were not exactly the order that was asked for. What they leave out follows in the order
            it was shown in, which is drawn by chance.
        unread_answers: malformed ones that named no document, so that chance alone ordered the window.
        thoughts: answers with a thought, which is not read.
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
        """Malformed answers among all; None where none was counted."""
        return self.malformed_answers / self.answers if self.answers else None

    @property
    def malformed(self) -> str:
        """What malformed answers mean, for people."""
        return (
            f"{self.malformed_answers} of {self.answers} answers of {self.model!r} were malformed, and "
            f"{self.unread_answers} named no document: what an answer leaves out is in an order drawn by chance. Use a "
            "larger chat model, or for a local one mode='first-token'"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
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
    """Rows with the reranker's scores, in order, in bounded memory; everything else of a row stays.

    Args:
        activation: ``none`` (raw scores), ``sigmoid`` (logits to (0, 1)) or ``default`` (as the authors ship it).
        start: leave out the rows before this one, which an interrupted run has labelled. What is scored together
            stays the same, so the scores do too, to the last bit.
        together: about how many documents are scored in one plan.
        seed: of the order in which a model that orders lists is shown a row's documents.
        statistics: is filled while the rows come; without it the log tells of malformed answers.
        options: ``longdoc``, ``overlap`` and the model's own call options; a row's instruction wins over one here.

    Raises:
        InputError: a query or option that cannot be used, or a cascade, whose scores do not compare.
        NonFiniteScoreError: the teacher gave NaN or infinity; the message names the rows.
    """
    figures = statistics if statistics is not None else LabellingStatistics()
    figures.model = reranker.spec.name
    for first, some in _windows(rows, together):
        if first + len(some) <= start:
            continue
        requests = [
            ScoreRequest(row.query, row.docs, row.instruction, row_name(row, place))
            for place, row in enumerate(some, start=first)
        ]
        answers = score_requests(requests, reranker, activation=activation, seed=seed, **options)
        for place, (row, answer) in enumerate(zip(some, answers, strict=True), start=first):
            if place < start:
                continue
            figures.score_space = answer.space
            figures.truncated_documents += answer.truncated
            figures.truncated_queries += answer.query_truncated
            _count(figures, row, answer.scores, followed=follows_instructions(reranker))
            _count_answers(figures, answer.statistics)
            yield replace(row, scores=tuple(answer.scores))
    if statistics is None and figures.malformed_answers:
        _LOG.warning("%s", figures.malformed)


def _windows(rows: Iterable[TrainingRow], together: int) -> Iterator[tuple[int, list[TrainingRow]]]:
    """Runs of rows with at least ``together`` documents, and the position of their first row."""
    first, some, waiting = 0, list[TrainingRow](), 0
    for row in rows:
        some.append(row)
        waiting += len(row.docs)
        if waiting >= together:
            yield first, some
            first, some, waiting = first + len(some), [], 0
    if some:
        yield first, some


def _count(figures: LabellingStatistics, row: TrainingRow, scores: Iterable[float], *, followed: bool) -> None:
    figures.rows += 1
    figures.replaced += row.scores is not None
    figures.instructions_ignored += row.instruction is not None and not followed
    for score in scores:
        figures.documents += 1
        figures.lowest = score if figures.lowest is None else min(figures.lowest, score)
        figures.highest = score if figures.highest is None else max(figures.highest, score)
        figures.mean += (score - figures.mean) / figures.documents


def _count_answers(figures: LabellingStatistics, statistics: Mapping[str, Any]) -> None:
    """Add up what a listwise model that counts its answers says of a row."""
    answers = int(statistics.get("windows", 0))
    figures.answers += answers
    figures.malformed_answers += answers - int(statistics.get("well_formed", answers))
    figures.unread_answers += int(statistics.get("unread", 0))
    figures.thoughts += int(statistics.get("thoughts", 0))
