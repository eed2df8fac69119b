"""nDCG@10 of scored candidates, by ir_measures: linear gain (trec_eval's), equal scores in the worst order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ir_measures import Qrel, ScoredDoc, iter_calc, nDCG

__all__ = ["Judgements", "ndcg10"]


@dataclass(frozen=True)
class Judgements:
    """The grades of one query; above 0 is relevant.

    Attributes:
        candidates: the grade of each candidate.
        others: the grades of judged documents that are no candidates. The ideal list counts them.
    """

    candidates: Sequence[int]
    others: Sequence[int] = ()


def ndcg10(scores: Sequence[Sequence[float]], judgements: Sequence[Judgements]) -> list[float]:
    """nDCG@10 of each query. Among equal scores the least relevant document comes first; 0 where nothing is relevant.

    Args:
        scores: of each query's candidates.

    Raises:
        ValueError: the scores and the grades of a query, or the two lists, differ in length.
    """
    run, qrels = [], []
    for number, (own, judged) in enumerate(zip(scores, judgements, strict=True)):
        query, grades = str(number), judged.candidates
        ordered = sorted(zip(own, grades, range(len(own)), strict=True), key=lambda one: (-one[0], one[1]))
        run += [ScoredDoc(query, f"c{doc}", -float(position)) for position, (*_, doc) in enumerate(ordered)]
        qrels += [Qrel(query, f"c{doc}", grade) for doc, grade in enumerate(grades)]
        qrels += [Qrel(query, f"o{doc}", grade) for doc, grade in enumerate(judged.others)]
    values = [0.0] * len(scores)
    for one in iter_calc([nDCG @ 10], qrels, run):
        values[int(one.query_id)] = float(one.value)
    return values
