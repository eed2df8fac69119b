"""Trains embedding and late-interaction models on real data and measures them, also on data of other kinds.

    RERANK_DATA=... python benchmarks/vector_training.py --list
    RERANK_DATA=... python benchmarks/vector_training.py --run "wikiqa colbert" "cepilepsyqa colbert, seed 2"
    RERANK_DATA=... python benchmarks/vector_training.py --next 60

A task is one model (a run's seed, at one share of the start's weights) on all of its test sets; vectors/catalogue.py
has the runs. Each measurement is added to benchmarks/results/vector_training.jsonl at once, so that tasks can be done
one by one and an interrupted one continues. Training files and weights are in a cache folder; weights that are no
longer there are trained again. docs/training-results.md shows the results as tables (tools/tables/vectors).
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import torch
from parts.run import ROOT, folders
from vectors.results import Results
from vectors.tasks import Bench, Task, tasks

RESULTS = ROOT / "benchmarks" / "results" / "vector_training.jsonl"


def chosen(names: list[str], every: list[Task]) -> list[Task]:
    """The tasks whose names are, or begin with, one of the given ones."""
    found = [task for task in every if any(task.name == one or task.name.startswith(f"{one}, ") for one in names)]
    unknown = [one for one in names if not any(task.name == one or task.name.startswith(f"{one}, ") for task in every)]
    if unknown:
        sys.exit(f"no task is called {unknown[0]!r}; --list shows them")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--list", action="store_true", help="every task, with its minutes and what is left of it")
    what.add_argument("--run", nargs="+", metavar="NAME", help="tasks by name, or by the beginning of their names")
    what.add_argument("--next", type=float, metavar="MINUTES", help="the most important tasks left, for so long")
    parser.add_argument("--results", type=Path, default=RESULTS, help="file of the results")
    parser.add_argument("--cache", type=Path, help="folder of training files and weights")
    parser.add_argument("--max-steps", type=int, help="of every training, for a rehearsal (with --results elsewhere)")
    parser.add_argument("--queries", type=int, help="of every test set, for a rehearsal (with --results elsewhere)")
    parser.add_argument("--threads", type=int, help="of torch; by default one a CPU, which is slow on a busy machine")
    options = parser.parse_args()
    if (options.max_steps or options.queries) and options.results == RESULTS:
        parser.error("--max-steps and --queries are for rehearsals: name another file with --results")
    data, folder = folders()
    if options.threads:
        torch.set_num_threads(options.threads)
    cache = options.cache or folder / "vector-training"
    bench = Bench(data, cache, Results(options.results), options.max_steps, options.queries)
    every = list(tasks())
    if options.list:
        for task in every:
            left = len(bench.pending(task))
            print(
                f"{bench.minutes(task) if left else 0:5.0f} min  {left:2} of {len(task.wanted()):2} left  {task.name}"
            )
        return
    until = time.monotonic() + 60 * options.next if options.next else None
    for task in every if options.next else chosen(options.run, every):
        if not bench.pending(task):
            continue
        minutes = bench.minutes(task)
        if until is not None and time.monotonic() + 60 * minutes > until:
            continue
        print(f"{task.name} (about {minutes:.0f} min) ...", file=sys.stderr, flush=True)
        started = time.monotonic()
        bench.do(task)
        print(f"{task.name}: {(time.monotonic() - started) / 60:.1f} min", file=sys.stderr, flush=True)


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
