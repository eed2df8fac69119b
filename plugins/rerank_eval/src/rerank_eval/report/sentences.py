"""What one set shows, in plain words. Which model to use is said by the advice alone, over all sets."""

from __future__ import annotations

from rerank_eval.figures.evaluation import Comparison, Row
from rerank_eval.report.rows.answer import Answer
from rerank_eval.report.wording import bounds, count, milliseconds, plus, probability, value

__all__ = ["headline", "sentences"]


def headline(found: Answer) -> str:
    """One line."""
    if found.leader is None:
        return "No model was evaluated on this set."
    stage = found.first_stage
    if stage is not None and found.gain is not None and found.gain.difference.mean <= 0:
        return f"No model has a higher mean than the first stage; {found.leader.name} has the highest of the models."
    if found.runner_up is None:
        return f"{found.leader.name} is the only model."
    if not found.open:
        return f"{found.leader.name} is better than every other model."
    if len(found.open) == 1:
        return f"{found.leader.name} has the highest mean; {found.open[0].name} may be as good."
    return f"{found.leader.name} has the highest mean; {len(found.open)} other models may be as good."


def sentences(found: Answer, metric: str) -> list[str]:
    """What the headline rests on."""
    leader = found.leader
    if leader is None:
        return []
    quality = leader.figures[metric]
    said = [f"Its mean {metric} is {value(quality.mean)} {bounds(quality)}{_latency(leader)}."]
    if found.runner_up is not None:
        said.append(_lead(found.lead, found.runner_up, metric))
        said.append(_told_apart(found))
    if found.fastest is not None and found.fastest is not leader and found.fastest.speed:
        said.append(
            f"Of these, {found.fastest.name} is the fastest: "
            f"{milliseconds(found.fastest.speed.median_ms)} a query, {metric} "
            f"{value(found.fastest.figures[metric].mean)}."
        )
    said.append(_gain(found, metric))
    return said


def _latency(row: Row) -> str:
    if row.speed is None:
        return "; its latency was not measured"
    median, slowest = milliseconds(row.speed.median_ms), milliseconds(row.speed.p95_ms)
    return f", at a median of {median} a query (95 % of queries take at most {slowest})"


def _lead(lead: Comparison | None, second: Row, metric: str) -> str:
    if lead is None:
        return f"Next is {second.name} with {value(second.figures[metric].mean)}; the two were not compared."
    difference = lead.difference
    return (
        f"That is {plus(difference.mean)} {bounds(difference, signed=True)} against the next, {second.name} "
        f"({probability(lead.p_corrected)} after Holm's correction)."
    )


def _told_apart(found: Answer) -> str:
    if not found.open:
        return "Its lead over every other model is larger than chance explains."
    names = _listed([row.name for row in found.open])
    said = f"These queries do not tell it apart from {names}."
    if found.lead is not None and found.runner_up in found.open and found.lead.more_queries:
        more = count(float(f"{found.lead.more_queries:.2g}"))
        said += f" About {more} more queries like these would show a lead as large as that over the next."
    return said


def _gain(found: Answer, metric: str) -> str:
    stage = found.first_stage
    if stage is None:
        return "The set has no first stage, so nothing shows what reranking gains."
    if found.gain is None:
        return f"In {metric}, {_stage(stage)} has {value(stage.figures[metric].mean)}; the two were not compared."
    difference, shown = found.gain.difference, found.gain.p_corrected < 0.05
    numbers = f"{plus(difference.mean)} {bounds(difference, signed=True)} against {_stage(stage)}"
    has = f"which has {value(stage.figures[metric].mean)}"
    if difference.mean > 0 and shown:
        return f"Reranking helps: {numbers}, {has}."
    if difference.mean < 0 and shown:
        return f"Reranking does harm: {numbers}, {has}."
    return f"It is not shown that reranking {'helps' if difference.mean > 0 else 'does harm'}: {numbers}, {has}."


def _stage(stage: Row) -> str:
    """
    >>> _stage(Row("set", "first stage: BM25", "first stage", {}, {}))
    'the first stage (BM25)'
    """
    return f"the first stage ({stage.name.removeprefix('first stage: ')})"


def _listed(names: list[str]) -> str:
    """
    >>> _listed(["a", "b", "c"])
    'a, b and c'
    """
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + f" and {names[-1]}"
