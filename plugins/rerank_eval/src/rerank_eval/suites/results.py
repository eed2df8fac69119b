"""`write_results`: kept rankings as mteb's results folder, with every metric of mteb computed by its own code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import rerank_core
from rerank_core import InputError
from rerank_eval.mteb.installed import need_mteb
from rerank_eval.mteb.meta import model_meta
from rerank_eval.runs.model_run import ModelRun
from rerank_eval.sets.judged_set import JudgedSet
from rerank_eval.suites.tasks import SuiteTask, difference

__all__ = ["write_results"]


def write_results(
    folder: Path, tasks: Sequence[tuple[SuiteTask, JudgedSet]], runs: Sequence[ModelRun]
) -> tuple[list[Path], list[str]]:
    """Write ``FOLDER/results/MODEL/REVISION/TASK.json`` for each model and task, as `mteb.evaluate` does.

    The revision of a model is its fingerprint. Data that differs from the published one has ``local-`` and its digest
    as the data set's revision.

    Returns:
        the files, and a sentence for each result that is not written: of a run that was stopped, or with failed
        queries, which mteb would leave out of its means, or of a part of the queries.

    Raises:
        MissingDependencyError: mteb is not installed.
        InputError: the files cannot be written.
    """
    need_mteb()
    from mteb import ResultCache

    cache = ResultCache(folder)
    written: list[Path] = []
    left_out: list[str] = []
    for task, judged in tasks:
        own = [run for run in runs if run.set_digest == judged.digest]
        if not own:
            left_out.append(f"there is no result of {task.name} for mteb: other labels left out some of its queries")
        for run in own:
            failed = sum(query.error is not None for query in run.queries)
            if run.stopped is not None or failed:
                reason = run.reason or f"{failed} of {len(run.queries)} queries failed"
                left_out.append(f"{run.model} has no result of {task.name} for mteb: {reason}")
                continue
            meta = _meta_of(run)
            try:
                cache.save_to_cache(_result(task, judged, run, meta), meta)
            except OSError as error:
                raise InputError(f"the results cannot be written to {str(folder)!r}: {error}") from error
            written.append(Path(cache.get_task_result_path(task.name, meta)))
    return written, left_out


def _meta_of(run: ModelRun) -> Any:
    """The metadata of a model that is not loaded any more."""
    known = {name: spec for spec in rerank_core.models() for name in spec.names}
    spec = known.get(run.source) or known.get(run.source.partition(":")[2])  # plugin:name
    facts = spec.facts() if spec else {}
    return model_meta(run.source, facts, run.facts, run.fingerprint, options=run.options)


def _result(task: SuiteTask, judged: JudgedSet, run: ModelRun, meta: Any) -> Any:
    """mteb's `TaskResult`, with the time that the model took."""
    import mteb

    published = _task_with(task, judged)
    scores = published.evaluate(_Kept(judged, run, meta), task.split, encode_kwargs={})
    seconds = sum(query.seconds for query in run.queries)
    now = datetime.now(tz=timezone.utc)
    result = mteb.TaskResult.from_task_results(published, {task.split: scores}, evaluation_time=seconds, date=now)
    if difference(task, judged) is not None:
        result.dataset_revision = f"local-{judged.digest}"
    return result


def _task_with(task: SuiteTask, judged: JudgedSet) -> Any:
    """mteb's task with the data of a set."""
    import mteb
    from datasets import Dataset

    published = mteb.get_task(task.name)
    documents = {one.id: one.text for query in judged.queries for one in query.candidates}
    split = {
        "corpus": Dataset.from_dict({"id": list(documents), "text": list(documents.values())}),
        "queries": Dataset.from_dict(
            {"id": [query.id for query in judged.queries], "text": [query.text for query in judged.queries]}
        ),
        "relevant_docs": {
            query.id: {**{one.id: int(one.gain or 0) for one in query.candidates}, **_whole(query.others)}
            for query in judged.queries
        },
        "top_ranked": {query.id: [one.id for one in query.candidates] for query in judged.queries},
    }
    published.dataset = {"default": {task.split: split}}
    published.data_loaded = True
    return published


def _whole(gains: Mapping[str, float]) -> dict[str, int]:
    return {key: int(gain) for key, gain in gains.items()}


class _Kept:
    """mteb's SearchProtocol: the scores of a run."""

    def __init__(self, judged: JudgedSet, run: ModelRun, meta: Any) -> None:
        self.mteb_model_meta = meta
        self._scores = {
            query.id: dict(zip((one.id for one in query.candidates), own.scores, strict=True))
            for query, own in zip(judged.queries, run.queries, strict=True)
        }

    def index(self, corpus: Any, **unused: Any) -> None:
        """Nothing is to be read."""

    def search(self, queries: Any, **unused: Any) -> dict[str, dict[str, float]]:
        """The scores of the queries' candidates."""
        return {row["id"]: self._scores[row["id"]] for row in queries}
