"""The answer of one set: which model leads, by how much, which others may be as good, and at what latency."""

from __future__ import annotations

from dataclasses import dataclass

from rerank_core.measures import Interval
from rerank_eval.figures.evaluation import Comparison, Evaluation, Row

__all__ = ["Answer", "answer", "comparison"]

_LEVEL = 0.05


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of one set.

    Attributes:
        leader: the model with the highest mean; None where no model has figures.
        runner_up: the next model; None where there is one model only.
        lead: leader minus runner-up; None where they were not compared.
        open: models that may be as good as the leader: p, corrected for all pairs, is 0.05 or more, or
            they were not compared. Best first.
        fastest: of the leader and the open models, the one with the lowest median latency; None without latencies.
        first_stage: the row that models must improve on; None where the set has none.
        gain: leader minus first stage; None where they were not compared.
    """

    leader: Row | None
    runner_up: Row | None
    lead: Comparison | None
    open: tuple[Row, ...]
    fastest: Row | None
    first_stage: Row | None
    gain: Comparison | None


def answer(evaluation: Evaluation, name: str) -> Answer:
    """The answer of the set ``name``, by the first metric."""
    rows = evaluation.rows_of(name)
    models = [row for row in rows if row.kind == "model" and row.figures]
    stage = next((row for row in rows if row.kind == "first stage"), None)
    if not models:
        return Answer(None, None, None, (), None, stage, None)
    leader, others = models[0], models[1:]
    compared = [(row, comparison(evaluation, name, row.name, leader.name)) for row in others]
    undecided = tuple(row for row, found in compared if found is None or found.p_corrected >= _LEVEL)
    timed = [row for row in (leader, *undecided) if row.speed]
    return Answer(
        leader=leader,
        runner_up=others[0] if others else None,
        lead=compared[0][1] if compared else None,
        open=undecided,
        fastest=min(timed, key=lambda row: row.speed.median_ms if row.speed else 0.0) if timed else None,
        first_stage=stage,
        gain=comparison(evaluation, name, stage.name, leader.name) if stage else None,
    )


def comparison(evaluation: Evaluation, name: str, first: str, second: str) -> Comparison | None:
    """The comparison of two rows by the first metric, turned so that its difference is ``second - first``."""
    for found in evaluation.comparisons:
        if found.set != name or found.metric != evaluation.metrics[0] or {found.first, found.second} != {first, second}:
            continue
        if found.first == first:
            return found
        turned = found.difference
        difference = Interval(-turned.mean, -turned.high, -turned.low, turned.level)
        return Comparison(name, found.metric, first, second, difference, found.p, found.p_corrected)
    return None
