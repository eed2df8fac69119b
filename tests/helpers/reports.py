"""Small evaluations for tests of the report, made by `evaluate` from sets and runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rerank_eval.figures.evaluate import evaluate
from rerank_eval.figures.evaluation import Evaluation
from rerank_eval.runs.model_run import ModelRun, QueryRun, RunFacts
from rerank_eval.sets.judged_set import Candidate, JudgedQuery, JudgedSet

__all__ = ["evaluation_of", "judged_set", "run_of"]

CHINESE = "大熊猫吃竹子，也吃别的东西。它住在四川的山里，每天要睡很久。"


def judged_set(name: str = "small", queries: int = 12, *, text: str = "what is word{}", doc: str = "") -> JudgedSet:
    """Queries with five candidates from a first stage; the relevant one is at ``query % 5``, and some texts are long.

    Args:
        text: of the queries, with a place for their number.
        doc: put before each candidate's text.
    """
    made = []
    for number in range(queries):
        texts = [
            f"{doc}word{number} {CHINESE if at % 2 else 'a sentence about letters. '}" * (1 + 9 * (at == 3))
            for at in range(5)
        ]
        candidates = tuple(
            Candidate(f"d{number}-{at}", own + str(at), float(at == number % 5), 5.0 - at)
            for at, own in enumerate(texts)
        )
        made.append(JudgedQuery(f"q{number}", text.format(number), candidates))
    return JudgedSet(name, tuple(made), "first-stage", "toy search")


def run_of(judged: JudgedSet, model: str, score: Callable[[int, int, float], float], **more: Any) -> ModelRun:
    """A run whose scores are ``score(query, candidate, gain)``; long texts were read in passages, the last one is best.

    Args:
        more: attributes of the run; ``seconds`` of each query.
    """
    seconds = more.pop("seconds", 0.01)
    queries = []
    for number, query in enumerate(judged.queries):
        scores = tuple(score(number, at, gain) for at, gain in enumerate(query.gains))
        passages: Mapping[int, tuple[int, int]] = {
            at: (len(one.text) - 30, len(one.text)) for at, one in enumerate(query.candidates) if len(one.text) > 100
        }
        queries.append(QueryRun(query.id, scores, seconds, 50, (3,), passages=passages))
    facts = RunFacts(7_000_000, 0.5, 300_000_000, "cpu", 1, "float32", "a machine", {"rerank-core": "0.1.0"})
    attributes = {"source": model, "options": {}, "fingerprint": "f", "queries": tuple(queries), "facts": facts, **more}
    return ModelRun(model=model, set_digest=judged.digest, **attributes)


def evaluation_of(*sets: JudgedSet, names: tuple[str, str] = ("good", "poor")) -> Evaluation:
    """Two models on each set: one is right but for every fourth query, the other ranks by position."""
    runs = []
    for judged in sets:
        runs.append(run_of(judged, names[0], lambda query, at, gain: (-gain if query % 4 == 0 else gain) + at / 100))
        runs.append(run_of(judged, names[1], lambda query, at, gain: at + gain * 0.5, seconds=0.002))
    return evaluate(sets, runs, ["nDCG@10", "RR@10"], price_per_hour=0.5)
