"""Reads a task's data through mteb, which downloads it from the hub or finds it in the hub's cache."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rerank_core import InputError
from rerank_eval.mteb.installed import need_mteb
from rerank_eval.mteb.requests import document_text
from rerank_eval.sets.judged_set import Candidate, JudgedQuery, JudgedSet
from rerank_eval.suites.make_set import make_set
from rerank_eval.suites.tasks import SuiteTask

__all__ = ["download_task", "set_of_split"]


def download_task(task: SuiteTask, *, sample: int | None = None, seed: int = 0) -> JudgedSet:
    """The task's data, at the revision that mteb names.

    Raises:
        MissingDependencyError: mteb is not installed.
        InputError: the data cannot be loaded.
    """
    need_mteb("download the data and name its folder with --suite-data")
    import mteb

    published = mteb.get_task(task.name)
    try:
        published.load_data()
    except Exception as error:  # a download fails in many ways
        raise InputError(
            f"mteb cannot load the data of {task.name} from the hub: {type(error).__name__}: {error}; if it is not "
            "reachable, download the data elsewhere and name its folder with --suite-data"
        ) from error
    return set_of_split(task.name, published.dataset["default"][task.split], sample=sample, seed=seed)


def set_of_split(name: str, split: Mapping[str, Any], *, sample: int | None = None, seed: int = 0) -> JudgedSet:
    """A split of a reranking task of mteb as a set.

    Args:
        split: mteb's `RetrievalSplitData`: ``corpus``, ``queries``, ``relevant_docs`` and ``top_ranked``.
        sample, seed: see `make_set`.
    """
    return make_set(name, _queries(split), sample=sample, seed=seed)


def _queries(split: Mapping[str, Any]) -> Iterator[JudgedQuery]:
    texts = {row["id"]: document_text(row) for row in split["corpus"]}
    for row in split["queries"]:
        gains: Mapping[str, float] = split["relevant_docs"].get(row["id"], {})
        ranked = split["top_ranked"][row["id"]]
        candidates = tuple(Candidate(key, texts[key], float(gains.get(key, 0))) for key in ranked)
        others = {key: float(gain) for key, gain in gains.items() if key not in set(ranked) and gain > 0}
        yield JudgedQuery(row["id"], row["text"], candidates, others)
