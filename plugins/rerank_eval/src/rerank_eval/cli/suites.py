"""The flags of the command about suites: ``--suite``, ``--suite-data`` and ``--mteb-results``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rerank_core import InputError
from rerank_core.cli.shared import note, show, table, warn
from rerank_eval.suites.tasks import METRICS, SuiteTask, difference, tasks_of

if TYPE_CHECKING:
    from rerank_eval.figures.evaluation import Evaluation
    from rerank_eval.runs.model_run import ModelRun
    from rerank_eval.sets.judged_set import JudgedSet

__all__ = ["SuiteFlags"]


@dataclass
class SuiteFlags:
    """Which published tasks are evaluated, where their data is, and where mteb's results go.

    Raises:
        InputError: an unknown suite, or flags that exclude or need each other.
        MissingDependencyError: results in mteb's format are asked for, and it is not installed.
    """

    names: Sequence[str]
    data: Path | None = None
    results: Path | None = None
    sample: int | None = None
    tasks: list[SuiteTask] = field(init=False)
    sets: list[JudgedSet] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.tasks = tasks_of(self.names)
        for flag, value in (("--suite-data", self.data), ("--mteb-results", self.results)):
            if value is not None and not self.tasks:
                raise InputError(f"{flag} is {str(value)!r}, and there is no suite; add --suite cmteb-reranking")
        if self.results is not None:
            from rerank_eval.mteb.installed import need_mteb

            if self.sample is not None:
                raise InputError("--mteb-results is for whole tasks, and --queries draws a part; leave one of them out")
            need_mteb("leave out --mteb-results")

    @property
    def metrics(self) -> Sequence[str]:
        """The metrics where none are named; empty without a suite."""
        return METRICS if self.tasks else ()

    def read(self, seed: int, encoding: str | None) -> list[JudgedSet]:
        """Read the data of every task, and say in what it differs from the published data.

        Args:
            encoding: of the files of ``--suite-data``; None to find it out.
        """
        for task in self.tasks:
            if self.data is not None:
                from rerank_eval.suites.folder import read_task

                judged = read_task(self.data, task, sample=self.sample, seed=seed, encoding=encoding)
            else:
                from rerank_eval.suites.hub import download_task

                note(f"loading the data of {task.name}")
                judged = download_task(task, sample=self.sample, seed=seed)
            self.sets.append(judged)
            if (other := difference(task, judged)) is not None:
                warn(f"{task.name} is not the published data: {other}; compare its figures with no published ones")
        return self.sets

    def write(self, runs: Sequence[ModelRun]) -> None:
        """Write mteb's results, if they are asked for."""
        if self.results is None:
            return
        from rerank_eval.suites.results import write_results

        written, left_out = write_results(self.results, list(zip(self.tasks, self.sets, strict=True)), runs)
        for line in left_out:
            warn(line)
        if written:
            note(f"{len(written)} results in mteb's format are in {self.results}")

    def show(self, evaluation: Evaluation) -> None:
        """Print a table a metric, as tables of C-MTEB are published: models by tasks, in percent, with the mean."""
        names = [judged.name for judged in self.sets]
        for metric in METRICS[:2] if len(names) > 1 else ():
            if metric not in evaluation.metrics:
                continue
            lines: list[tuple[float, list[str]]] = []
            for model in evaluation.models:
                found = {row.set: row for row in evaluation.rows if row.kind == "model" and row.name == model}
                figures = [found[name].figures.get(metric) if name in found else None for name in names]
                values = [None if one is None else 100 * one.mean for one in figures]
                known = [value for value in values if value is not None]
                mean = sum(known) / len(known) if len(known) == len(names) else None
                lines.append((-(mean or 0.0), [model, *map(_percent, (*values, mean))]))
            columns = [metric, *names, "mean"]
            show(table(columns, [cells for _, cells in sorted(lines, key=lambda line: line[0])], right=columns[1:]))


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
