"""Compares the models that run without a hub with `rerank eval`, on four English and four Chinese sets.

    RERANK_DATA=... python benchmarks/evaluation.py --html report.html

docs/evaluation.md shows the table. The command keeps every ranking in a cache folder, so that an interrupted run
continues and a further model adds only itself. Run it while the machine does nothing else.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from evaluated.models import EMBEDDED, LANGUAGE_MODEL, TRAINED, language_model, published
from evaluated.sets import CHINESE, ENGLISH, data_of
from parts.run import ROOT, folders, machine, write

EVERY = [*EMBEDDED, *TRAINED, LANGUAGE_MODEL]
RESULTS = ROOT / "benchmarks" / "results" / "evaluation.json"


def kept(result: dict[str, Any], cache: Path) -> dict[str, Any]:
    """The figures of a table and the advice, without rankings, values of single queries, and the name of a folder."""
    return {
        "metrics": result["metrics"],
        "sets": [
            {key: one[key] for key in ("name", "queries", "candidates", "first_stage", "judged_share")}
            | {"rows": [_row(row) for row in one["rows"]]}
            for one in result["sets"]
        ],
        "means": result["means"],
        "advice": [sentence.replace(f"{cache}/", "") for sentence in result["advice"]["sentences"]],
    }


def _row(row: dict[str, Any]) -> dict[str, Any]:
    run = row["run"]
    facts = {} if run is None else {"facts": run["facts"], "stopped": run["stopped"], "reason": run["reason"]}
    return {key: row[key] for key in ("name", "kind", "figures", "judged", "failed", "truncated", "speed")} | facts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=50, help="drawn from each set")
    parser.add_argument("--top", type=int, default=30, help="candidates of a first stage")
    parser.add_argument("--set", action="append", choices=[*ENGLISH, *CHINESE], dest="sets", help="may be repeated")
    parser.add_argument(
        "--model", action="append", choices=EVERY, dest="models", metavar="NAME", help=f"of {', '.join(EVERY)}"
    )
    parser.add_argument("--html", type=Path, help="file of the report")
    parser.add_argument("--results", type=Path, default=RESULTS, help="file of the figures")
    parser.add_argument("--cache", type=Path, help="folder of sets, models and rankings")
    options = parser.parse_args()
    data, bench = folders()
    cache = options.cache or bench / "evaluation"
    models = []
    for name in options.models or EVERY:
        if name == LANGUAGE_MODEL:
            models.append(language_model(cache / "models"))
        elif name in TRAINED:
            source = published(name, data, bench / "vector-training", cache / "models")
            models.append(f"{source},name={name}")
        else:
            models.append(name)
    sets = data_of(options.sets or [*ENGLISH, *CHINESE], data, cache / "sets")
    command = [sys.executable, "-m", "rerank_core", "eval", "--json", "--recommend", "--queries", str(options.queries)]
    command += ["--top", str(options.top), "--results", str(cache / "rankings"), "--device", "cpu"]
    command += [*(word for one in models for word in ("--model", one)), *(word for one in sets for word in ("-d", one))]
    command += ["--html", str(options.html)] if options.html else []
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    result = {
        "machine": machine(),
        "queries": options.queries,
        "top": options.top,
        **kept(json.loads(done.stdout), cache),
    }
    write(options.results, result)


if __name__ == "__main__":
    main()
