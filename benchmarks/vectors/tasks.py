"""Tasks: single measurements and the trainings that they need, each kept as soon as it is done."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import rerank_core
from rerank_core.records.training_row import TrainingRow
from vectors.catalogue import RUNS, STARTS, Run
from vectors.judged_sets import SETS, JudgedSet
from vectors.measuring import Measurement, by_bm25, by_model, by_pairs
from vectors.results import Key, Results, measurement
from vectors.training import averaged, start_reranker, train_run, weights_of
from vectors.training_files import TrainingFiles, taught, training_files

__all__ = ["Bench", "Task", "tasks"]


@dataclass(frozen=True)
class Task:
    """One model of a run on all of its sets, or a baseline.

    Attributes:
        name: as `--list` shows it.
        run: of the catalogue; None for BM25.
        share: of the start's weights; 1 is the untouched model.
        minutes: an estimate of its measurements, without the training.
    """

    name: str
    run: Run | None
    seed: int | None
    share: float | None
    sets: tuple[str, ...]
    minutes: float = 0.0

    @property
    def key_name(self) -> str:
        """The name of the run in the results."""
        if self.run is None:
            return "bm25"
        return f"untouched {self.run.start}" if self.share == 1 else self.run.name

    def wanted(self) -> list[Key]:
        """What it measures."""
        share = None if self.share == 1 else self.share
        return [Key(self.key_name, name, self.seed, share, width) for name in self.sets for width in self._widths(name)]

    def _widths(self, name: str) -> tuple[int | None, ...]:
        """The untouched model is measured at the widths of every run that starts from it."""
        if self.run is None:
            return (None,)
        runs = [self.run] if self.share != 1 else [run for run in RUNS.values() if run.start == self.run.start]
        return tuple(dict.fromkeys(width for run in runs for width in run.widths_on(name)))


def tasks() -> Iterator[Task]:
    """All tasks, the most important first: baselines, then each run's first seed, then other seeds and shares."""
    yield Task("bm25", None, None, None, tuple(SETS), minutes=2)
    yield from _untouched()
    for place in range(3):
        for run in RUNS.values():
            yield from _of_run(run, place)


def _untouched() -> Iterator[Task]:
    for start in STARTS:
        if STARTS[start]["kind"] == "cross-encoder":
            continue
        runs = [run for run in RUNS.values() if run.start == start]
        sets = tuple(dict.fromkeys(name for run in runs for name in run.sets))
        minutes = sum(runs[0].minutes_to_measure(name) for name in sets)
        yield Task(f"untouched {start}", runs[0], None, 1.0, sets, minutes)


def _of_run(run: Run, place: int) -> Iterator[Task]:
    """Round 0: the first seed at shares 0 and 0.5. Round 1: the other seeds. Round 2: the rest of the curve."""
    near = tuple(share for share in run.shares if share in (0.0, 0.5))
    seeds = run.seeds[:1] if place != 1 else run.seeds[1:]
    for seed in seeds:
        for share in near if place < 2 else tuple(one for one in run.shares if one not in near):
            minutes = sum(run.minutes_to_measure(name) for name in run.sets)
            name = f"{run.name}, seed {seed}, share {share:g}"
            yield Task(name, run, seed, share, run.sets, minutes)


@dataclass(frozen=True, eq=False)
class Bench:
    """The folders, and the results so far.

    Attributes:
        data: the judged data.
        cache: training files and weights.
        max_steps, queries: shorten every training and set, for a rehearsal; None for a real run.
    """

    data: Path
    cache: Path
    results: Results
    max_steps: int | None = None
    queries: int | None = None
    _sets: dict[str, JudgedSet] = field(default_factory=dict)

    def pending(self, task: Task) -> list[Key]:
        """What is not measured yet."""
        return [key for key in task.wanted() if not self.results.measured(key)]

    def minutes(self, task: Task) -> float:
        """An estimate, with the training if its weights are not in the cache."""
        return task.minutes + (task.run.minutes_to_train() if self._trains(task) and task.run is not None else 0.0)

    def _trains(self, task: Task) -> bool:
        if task.run is None or task.seed is None:
            return False
        return not weights_of(task.run, task.seed, self.cache).exists()

    def set(self, name: str) -> JudgedSet:
        """A test set, read once."""
        if name not in self._sets:
            judged = SETS[name](self.data)
            self._sets[name] = judged if self.queries is None else small(judged, self.queries)
        return self._sets[name]

    def files(self, run: Run) -> TrainingFiles:
        """The training files of a run, with a teacher's scores if it has one."""
        files = training_files(run.data, self.data, self.cache)
        if run.teacher is None:
            return files
        if run.teacher == "mini":
            with rerank_core.load("mini", device="cpu") as mini:
                return taught(files, mini, "mini")
        teacher = RUNS[run.teacher]
        return taught(files, averaged(teacher, self.weights(teacher, 1), 0.0), teacher.name.replace(" ", "-"))

    def weights(self, run: Run, seed: int) -> Path:
        """The weights of a run, trained if they are not in the cache; a training becomes a row."""
        trained = train_run(run, seed, self.files(run), self.cache, max_steps=self.max_steps)
        if trained.facts is not None:
            self.results.add({"run": run.name, "seed": seed, **trained.facts})
        return trained.file

    def do(self, task: Task) -> None:
        """Measure what is pending; each measurement becomes a row at once."""
        pending = self.pending(task)
        if not pending:
            return
        reranker = None
        if task.run is not None:
            run = task.run
            if task.seed is None:
                reranker = start_reranker(run)
            else:
                reranker = averaged(run, self.weights(run, task.seed), task.share or 0.0)
        for name in dict.fromkeys(key.set for key in pending):
            judged = self.set(name)
            if task.run is not None and name in task.run.queries:
                judged = judged.first(task.run.queries[name])
            keys = {key.width: key for key in pending if key.set == name}
            for width, one in _measurements(task, judged, reranker, tuple(keys)):
                self.results.add(measurement(keys[width], one.how, one.means, one.ndcg))


def _measurements(
    task: Task, judged: JudgedSet, reranker: rerank_core.Reranker | None, widths: tuple[int | None, ...]
) -> list[tuple[int | None, Measurement]]:
    """All measurements of a set; they are added together, so that none of an interrupted set is missed."""
    if reranker is None:
        return [(None, one) for one in by_bm25(judged)]
    if task.run is not None and task.run.kind == "cross-encoder":
        return [(None, one) for one in by_pairs(judged, reranker)]
    return list(by_model(judged, reranker, widths))


def small(judged: JudgedSet, queries: int, documents: int = 6) -> JudgedSet:
    """The first queries with a few candidates each, and a pool of their own texts."""
    first = judged.first(queries)
    rows = tuple(_shortened(row, documents) for row in first.rows)
    texts = [text for row in rows for text in row.docs]
    texts += [judged.pool[place] for _, gains in first.searches for place in list(gains)[:documents]]
    pool = tuple(dict.fromkeys([*texts, *judged.pool[:documents]]))
    places = {text: place for place, text in enumerate(pool)}
    searches = tuple(
        (query, {places[text]: gain for place, gain in gains.items() if (text := judged.pool[place]) in places})
        for query, gains in first.searches
    )
    return JudgedSet(pool, rows, searches)


def _shortened(row: TrainingRow, documents: int) -> TrainingRow:
    """The row with at most so many documents: the best one, and the first of the rest."""
    labels = row.labels or ()
    best = max(range(len(labels)), key=labels.__getitem__)
    kept = [best, *[place for place in range(len(labels)) if place != best][: documents - 1]]
    return replace(row, docs=tuple(row.docs[place] for place in kept), labels=tuple(labels[place] for place in kept))
