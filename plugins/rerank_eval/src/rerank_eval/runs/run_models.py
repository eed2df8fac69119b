"""`run_models`: every model ranks every set, one model after another."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Protocol

from rerank_eval.runs.budget import FEWEST, too_slow
from rerank_eval.runs.kept_results import KeptResults
from rerank_eval.runs.known_models import KnownModels
from rerank_eval.runs.model_choice import ModelChoice
from rerank_eval.runs.model_process import CrashError, Loaded, LoadError, ModelProcess
from rerank_eval.runs.model_run import ModelRun, QueryRun, RunFacts, Stopped
from rerank_eval.sets.judged_set import JudgedQuery, JudgedSet

__all__ = ["Silent", "Watcher", "run_models"]

_SHORT = 1.0
"""Seconds of a call below which a second call warms the model up."""


class Watcher(Protocol):
    """Is told how far the work is."""

    def loading(self, model: str) -> None:
        """The model's process starts."""

    def ranked(self, model: str, judged: str, *, kept: bool) -> None:
        """A query is done; ``kept``: it was in the kept results."""

    def ended(self, model: str, judged: str, left: int, reason: str | None) -> None:
        """A set is done, with ``left`` queries that are not ranked for this reason."""

    def warn(self, model: str, message: str) -> None:
        """The model's code logged a warning."""


class Silent:
    """A `Watcher` that says nothing, but logs warnings."""

    def loading(self, model: str) -> None: ...
    def ranked(self, model: str, judged: str, *, kept: bool) -> None: ...
    def ended(self, model: str, judged: str, left: int, reason: str | None) -> None: ...
    def warn(self, model: str, message: str) -> None:
        logging.getLogger("rerank_core").warning("%s: %s", model, message)


def run_models(
    choices: Sequence[ModelChoice],
    sets: Sequence[JudgedSet],
    *,
    results: Path,
    budget_ms: float | None = None,
    check: Callable[[RunFacts], None] | None = None,
    watcher: Watcher,
) -> list[ModelRun]:
    """Run each model in a process of its own over all sets, and keep each ranking when it is there.

    A model that cannot be loaded or whose process ends is reported in its runs (`ModelRun.stopped`); the others go on.

    Args:
        results: the folder of kept results. Rankings in it are not computed again.
        budget_ms: a model that is clearly slower is dropped from a set after a few queries.
        check: is called with the facts of each model before it ranks; what it raises ends the run.

    Returns:
        for each model a run of each set, in the order of the arguments.

    Raises:
        InputError: results cannot be kept.
        KeyboardInterrupt: rankings so far are kept.
    """
    known = KnownModels(results)
    runs: list[ModelRun] = []
    for choice in choices:
        loaded = known.get(choice)
        if loaded is not None and check is not None:
            check(loaded.facts)
        found = None if loaded is None else _kept_runs(choice, loaded, sets, results, budget_ms)
        if found is not None:
            _tell(watcher, sets, found)
            runs += found
            continue
        watcher.loading(choice.label)
        try:
            process = ModelProcess(choice, lambda message, label=choice.label: watcher.warn(label, message))  # type: ignore[misc]
        except (LoadError, CrashError) as error:
            stopped: Stopped = "failed" if isinstance(error, LoadError) else "crashed"
            for judged in sets:
                watcher.ended(choice.label, judged.name, len(judged.queries), str(error))
                runs.append(_nothing(choice, judged, stopped, str(error)))
            continue
        kept: KeptResults | None = None
        with process:
            try:
                known.add(choice, process.loaded)
                if check is not None:
                    check(process.loaded.facts)
                kept = KeptResults(results, choice.label, process.loaded)
                runs += _OneModel(choice, process.loaded, process, kept, budget_ms, watcher).over(sets)
            finally:
                if kept is not None:
                    kept.close()
    return runs


def _kept_runs(
    choice: ModelChoice, loaded: Loaded, sets: Sequence[JudgedSet], results: Path, budget_ms: float | None
) -> list[ModelRun] | None:
    """The runs of a model that need not be loaded; None where it has to rank a query."""
    kept = KeptResults(results, choice.label, loaded)
    try:
        return _OneModel(choice, loaded, None, kept, budget_ms, Silent()).over(sets)
    except _NotKept:
        return None


def _tell(watcher: Watcher, sets: Sequence[JudgedSet], runs: Sequence[ModelRun]) -> None:
    for judged, run in zip(sets, runs, strict=True):
        for _ in run.queries:
            watcher.ranked(run.model, judged.name, kept=True)
        watcher.ended(run.model, judged.name, len(judged.queries) - len(run.queries), run.reason)


def _nothing(choice: ModelChoice, judged: JudgedSet, stopped: Stopped, reason: str) -> ModelRun:
    return ModelRun(choice.label, choice.source, {}, "", judged.digest, (), stopped=stopped, reason=reason)


class _NotKept(Exception):  # noqa: N818 -- no error: the model has to be loaded
    """A query is not among the kept results."""


class _OneModel:
    """A model on its way through the sets; without a process, kept results are all that it has."""

    def __init__(
        self,
        choice: ModelChoice,
        loaded: Loaded,
        process: ModelProcess | None,
        kept: KeptResults,
        budget_ms: float | None,
        watcher: Watcher,
    ) -> None:
        self._choice, self._loaded, self._process, self._kept = choice, loaded, process, kept
        self._budget_ms, self._watcher = budget_ms, watcher
        self._has_ranked = False
        self._crash: str | None = None

    def over(self, sets: Sequence[JudgedSet]) -> list[ModelRun]:
        """A run of each set."""
        runs = [self._over(judged) for judged in sets]
        facts, kept = self._loaded.facts, self._kept.facts
        if kept is not None and not self._has_ranked:
            # A process that ranked nothing needed less memory than the one whose rankings are shown.
            facts = kept
        elif self._process is not None:
            peaks = (self._process.peak_bytes, kept.peak_bytes if kept else None)
            facts = replace(facts, peak_bytes=max(filter(None, peaks), default=None))
        return [replace(run, facts=facts) for run in runs]

    def _over(self, judged: JudgedSet) -> ModelRun:
        runs: list[QueryRun] = []
        ending: tuple[Stopped, str] | None = None
        for query in judged.queries:
            run = self._kept.get(query)
            is_kept = run is not None
            if run is None:
                try:
                    run = self._ranked(query)
                except CrashError as error:
                    self._crash = str(error)
                    ending = ("crashed", self._crash)
                    break
            runs.append(run)
            self._watcher.ranked(self._choice.label, judged.name, kept=is_kept)
            if (ending := self._ending(runs, last=query is judged.queries[-1])) is not None:
                break
        stopped, reason = ending or (None, None)
        self._watcher.ended(self._choice.label, judged.name, len(judged.queries) - len(runs), reason)
        loaded, choice = self._loaded, self._choice
        return ModelRun(
            choice.label,
            choice.source,
            loaded.options,
            loaded.fingerprint,
            judged.digest,
            tuple(runs),
            loaded.facts,
            stopped,
            reason,
        )

    def _ranked(self, query: JudgedQuery) -> QueryRun:
        """Rank a query and keep the result; the first one is ranked before it is measured, to warm the model up.

        Raises:
            CrashError: the process ended, now or at an earlier query.
            _NotKept: there is no process.
        """
        if self._process is None:
            raise _NotKept
        if self._crash is not None:
            raise CrashError(self._crash)
        facts = self._loaded.facts
        # A remote model has nothing to warm up, and its calls may cost money.
        warms = not self._has_ranked and (facts.device or facts.parameters)
        if warms and self._process.rank(query).seconds < _SHORT:
            self._process.rank(query)
        self._has_ranked = True
        run = self._process.rank(query)
        self._kept.add(query, run, self._process.peak_bytes)
        return run

    def _ending(self, runs: Sequence[QueryRun], *, last: bool) -> tuple[Stopped, str] | None:
        """Why the run ends after these queries; None where it goes on, or reached its end."""
        if (last or len(runs) >= FEWEST) and all(run.error is not None for run in runs):
            return "failed", f"each of the first {len(runs)} calls failed: {runs[-1].error}"
        seconds = [run.seconds for run in runs if run.error is None]
        if not last and too_slow(seconds, self._budget_ms):
            return "budget", (
                f"dropped after {len(runs)} queries: {median(seconds) * 1000:,.0f} ms a query is over the budget of "
                f"{self._budget_ms:g} ms"
            )
        return None
