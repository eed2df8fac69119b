"""The tasks of C-MTEB's reranking, the table by which Chinese rerankers are compared."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from rerank_core import InputError
from rerank_eval.sets.judged_set import JudgedSet

__all__ = ["METRICS", "SUITES", "SuiteTask", "difference", "tasks_of"]

METRICS = ("map_at_1000", "map", "nDCG@10")
"""The main score of mteb 2, that of the tables before 2025, and the metric of most retrieval tables."""


@dataclass(frozen=True, slots=True)
class SuiteTask:
    """One task.

    Attributes:
        name: in mteb.
        split: the part of the data that is evaluated.
        other_names: of its data set on the hub.
        queries, candidates, relevant: numbers in the published data, after queries without a positive or without a
            negative (mteb's descriptive statistics).
    """

    name: str
    split: str
    other_names: tuple[str, ...]
    queries: int
    candidates: int
    relevant: int


_CMTEB = (
    SuiteTask("T2Reranking", "dev", (), 5_908, 97_422, 44_444),
    SuiteTask("MMarcoReranking", "dev", ("Mmarco-reranking",), 100, 100_026, 107),
    SuiteTask("CMedQAv1-reranking", "test", ("CMedQAv1",), 1_000, 100_000, 1_931),
    SuiteTask("CMedQAv2-reranking", "test", ("CMedQAv2",), 1_000, 100_000, 1_910),
)
SUITES = {"cmteb-reranking": _CMTEB}


def tasks_of(names: Sequence[str]) -> list[SuiteTask]:
    """The tasks of suites, or single tasks, by their names; each once.

    Raises:
        InputError: an unknown name.
    """
    single = {task.name.lower(): (task,) for tasks in SUITES.values() for task in tasks}
    known = {**SUITES, **single}
    found: list[SuiteTask] = []
    for name in names:
        tasks = known.get(name.lower())
        if tasks is None:
            near = difflib.get_close_matches(name.lower(), known, 1)
            meant = f"; did you mean {known[near[0]][0].name if near[0] in single else near[0]}?" if near else ""
            every = ", ".join([*SUITES, *(task.name for tasks in SUITES.values() for task in tasks)])
            raise InputError(f"there is no suite {name!r}{meant} The suites and their tasks are {every}")
        found += [task for task in tasks if task not in found]
    return found


def difference(task: SuiteTask, judged: JudgedSet) -> str | None:
    """In which numbers a set differs from the published data; None where they are equal."""
    numbers = {
        "queries": (len(judged.queries), task.queries),
        "candidates": (sum(len(query.candidates) for query in judged.queries), task.candidates),
        "relevant documents": (sum(sum(map(bool, query.gains)) for query in judged.queries), task.relevant),
    }
    parts = [f"{own:,} {what} instead of {known:,}" for what, (own, known) in numbers.items() if own != known]
    return ", ".join(parts) or None
