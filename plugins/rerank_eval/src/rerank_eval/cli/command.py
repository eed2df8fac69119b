"""``rerank eval``: compare rerankers on judged data."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from rerank_core import InputError
from rerank_core.cli.shared import (
    AsJson,
    Device,
    Dtype,
    Encoding,
    LongDocs,
    MaxLength,
    ModelOptions,
    Threads,
    emit_json,
    load_options,
    note,
)
from rerank_eval.cli.decisions import DecisionFlags
from rerank_eval.cli.labels import LabelFlags
from rerank_eval.cli.live import live
from rerank_eval.cli.suites import SuiteFlags
from rerank_eval.cli.tables import show_evaluation
from rerank_eval.cli.thresholds import below, parse_floors
from rerank_eval.runs.model_choice import choices_of
from rerank_eval.sets.judged_set import JudgedSet

__all__ = ["evaluate_models"]


def evaluate_models(
    model: Annotated[
        list[str],
        typer.Option(
            "--model",
            "-m",
            metavar="NAME[,KEY=VALUE...]",
            help="A model: a name from `rerank models`, a hub id or a directory, with options of its own after "
            "commas; name=LABEL sets its name in the tables. Can be repeated.",
        ),
    ],
    data: Annotated[
        list[str] | None,
        typer.Option(
            "--data",
            "-d",
            metavar="[NAME=]PATH",
            help="Judged queries: a file of rows, a BEIR folder, or queries=, docs=, qrels= and run= with commas "
            "between. Can be repeated.",
        ),
    ] = None,
    suite: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A published suite: cmteb-reranking (four Chinese tasks), or one of its tasks. Can be repeated.",
        ),
    ] = None,
    suite_data: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Its data: a file or folder a task, as downloaded; by default mteb asks the hub."
        ),
    ] = None,
    mteb_results: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write the suite's results there in mteb's format.")
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help='Labels for data without: records {"query", "doc" or "id", and "clicked", "thumb" or "label"}.',
        ),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[,KEY=VALUE...]",
            help="Labels by a model with scores: relevant or not, for data without labels.",
        ),
    ] = None,
    judge_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Labels by a chat model behind an OpenAI-compatible endpoint: grades 0 to 3. The key is in "
            "OPENAI_API_KEY.",
        ),
    ] = None,
    judge_model: Annotated[str | None, typer.Option(metavar="NAME", help="The chat model's name there.")] = None,
    judge_depth: Annotated[
        int, typer.Option(min=1, help="The best candidates of each model that the judge labels.")
    ] = 20,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            "--metric",
            help="A metric of ir_measures, such as nDCG@10, AP, RR@10 or R@20, or C-MTEB's map or map_at_1000; can be "
            "repeated, and the first decides. By default nDCG@10, AP, RR@10; of a suite map_at_1000, map, nDCG@10.",
        ),
    ] = None,
    queries: Annotated[
        int | None, typer.Option(min=2, help="Draw this many queries of each set; by default all.")
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(min=1, help="Candidates a query from a first stage; by default 100 of BM25, all of a run."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the drawn queries and of every random number.")] = 0,
    budget_ms: Annotated[
        float | None,
        typer.Option(min=0, help="Drop a model from a set after a few queries if it takes longer than this a query."),
    ] = None,
    price_per_hour: Annotated[
        float | None, typer.Option(min=0, help="Price of this machine for an hour: shows the cost of 1,000 queries.")
    ] = None,
    fail_under: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METRIC=VALUE", help="Exit code 1 if a model's mean is lower on any set; can be repeated."
        ),
    ] = None,
    recommend: Annotated[
        bool,
        typer.Option("--recommend", help="Say which model to use (within --budget-ms), how sure that is, and how."),
    ] = False,
    threshold: Annotated[
        list[str] | None,
        typer.Option(
            metavar="precision=VALUE|recall=VALUE",
            help="Show from which score on a model's documents are that precise or complete; can be repeated.",
        ),
    ] = None,
    calibrate: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Fit probabilities of relevance to the labels and write them for `load(calibration=FILE)`; one model.",
        ),
    ] = None,
    results: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Keeps every ranking; one that is there is not computed again.")
    ] = Path(".rerank-eval"),
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a report: one HTML file that needs no network.")
    ] = None,
    as_json: AsJson = False,
    longdoc: LongDocs = None,
    max_length: MaxLength = None,
    device: Device = None,
    dtype: Dtype = None,
    threads: Threads = None,
    option: ModelOptions = None,
    encoding: Encoding = None,
) -> None:
    """Compare rerankers on judged data: quality, speed and cost.

    \b
    Examples:
      rerank eval --model mini --model bge-reranker-base --data dev.jsonl
      rerank eval -m mini -m ./mine -m "mini,longdoc=firstp,name=first passage" -d beir/scifact
      rerank eval -m mini -d dl19=queries=topics.tsv,docs=texts.tsv,qrels=qrels.txt,run=bm25.trec
      rerank eval -m mini -m ./mine -d queries.jsonl --judge-url http://localhost:8000/v1 --judge-model NAME
      rerank eval -m ./mine -d dev.jsonl --fail-under nDCG@10=0.7 --json > figures.json
      rerank eval -m mini -m qwen3-reranker-0.6b -d dev.jsonl --budget-ms 200 --price-per-hour 1.20 --recommend
      rerank eval -m mini -d dev.jsonl --threshold precision=0.9 --calibrate mini.json
      rerank eval -m mini-multilingual --suite cmteb-reranking --suite-data downloads

    Each model runs in a process of its own and ranks one query a call, as a service would. The table shows each model
    between the first stage (the order that it gets), the floors random and BM25, and the ceiling oracle (the best order
    of these candidates). Flags from --longdoc on, and -o, apply to all models.

    \b
    Data:
      {"query": "...", "positive": ["..."], "negative": ["..."]}   or any row that `rerank train` reads;
      a BEIR folder; or files of TREC. docs/evaluation.md describes the forms.

    \b
    Exit codes:
      0  every model ran
      1  a model could not be run or is below --fail-under, or data or flags cannot be used
      2  an unknown flag
    """
    common = {"longdoc": longdoc, "max_length": max_length, "device": device, "dtype": dtype, "threads": threads}
    choices = choices_of(model, load_options(common, option or []))
    floors = parse_floors(fail_under or [])
    suites = SuiteFlags(suite or (), suite_data, mteb_results, queries)
    if not data and not suites.tasks:
        raise typer.BadParameter("none is given; name judged queries, or a suite with --suite", param_hint="--data")
    decision_flags = DecisionFlags(choices, recommend, threshold or (), calibrate)
    if html is not None and (not html.absolute().parent.is_dir() or html.is_dir()):
        raise InputError(f"--html is {str(html)!r}; it must be a file in a folder that exists")
    # Imported here because they import numpy and the readers of files, which --help does not need.
    from rerank_eval.figures.evaluate import METRICS, check_sets, evaluate, known_metrics
    from rerank_eval.figures.plain_data import to_dict
    from rerank_eval.runs.run_models import run_models
    from rerank_eval.sets.read import read_sets

    metrics = known_metrics(dict.fromkeys([*(metric or suites.metrics or METRICS), *floors]))
    label_flags = LabelFlags(labels, judge, judge_url, judge_model, judge_depth, encoding)
    label_flags.check()
    need_labels = not label_flags.come_later
    sets = read_sets(data or [], top=top, queries=queries, seed=seed, need_labels=need_labels, encoding=encoding)
    sets += suites.read(seed, encoding)
    sets = label_flags.before_runs(sets)
    if not label_flags.has_judge:
        _say_notes(sets)
        check_sets(sets, metrics)
    with live(choices, sets, str(results)) as watcher:
        check = partial(decision_flags.check, sets=sets)
        runs = run_models(choices, sets, results=results, budget_ms=budget_ms, check=check, watcher=watcher)
    if label_flags.has_judge:
        sets, runs = label_flags.after_runs(sets, runs, metrics[0], results)
        _say_notes(sets)
    suites.write(runs)
    evaluation = evaluate(sets, runs, metrics, price_per_hour=price_per_hour, seed=seed)
    decisions = decision_flags.decide(evaluation, budget_ms=budget_ms, seed=seed)
    if html is not None:
        from rerank_eval.advice.advise import advise
        from rerank_eval.report import write_report

        write_report(evaluation, html, advice=decisions.advice or advise(evaluation, budget_ms=budget_ms))
        note(f"the report is in {html}")
    if as_json:
        emit_json({**to_dict(evaluation), **decisions.to_json()})
    else:
        show_evaluation(evaluation, budget_ms=budget_ms)
        suites.show(evaluation)
        decisions.show()
    failures = below(evaluation, floors)
    for line in failures:
        typer.secho(line, err=True, fg=typer.colors.RED)
    crashed = any(run.stopped in ("failed", "crashed") for run in runs)
    raise typer.Exit(1 if failures or crashed else 0)


def _say_notes(sets: Sequence[JudgedSet]) -> None:
    """Print what must be known about the data and its labels."""
    for judged in sets:
        for line in (*judged.facts.notes(), *judged.label_notes):
            note(f"{judged.name}: {line}")
