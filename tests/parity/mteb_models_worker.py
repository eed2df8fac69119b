"""Runs in an environment with mteb 2.x, with this repository on its path: one line of JSON in, one out.

The argument is the search path of the process that started it, in JSON; its packages come after those of the
environment. Input: ``call``, the name of a function, and its arguments.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

Row = dict[str, Any]


def task_of(name: str, rows: list[Row]) -> Any:
    """mteb's task with local rows of queries, positives and negatives, by its own conversion."""
    import mteb
    from datasets import Dataset
    from mteb.abstasks.text.reranking import OLD_FORMAT_RERANKING_TASKS, AbsTaskReranking

    published = mteb.get_task(name)

    class Task(AbsTaskReranking):
        metadata = published.metadata

    if name not in OLD_FORMAT_RERANKING_TASKS:
        OLD_FORMAT_RERANKING_TASKS.append(name)
    task = Task()
    columns = {key: [row[key] for row in rows] for key in ("query", "positive", "negative")}
    task.transform_old_dataset_format({task.hf_subsets[0]: {task.eval_splits[0]: Dataset.from_dict(columns)}})
    return task


def by_mteb(name: str, rows: list[Row], source: str, options: Row, folder: str) -> Row:
    """mteb.evaluate with one of our models: its result, and each query's values before they are rounded."""
    import mteb
    from mteb._evaluators.retrieval_metrics import calculate_retrieval_scores
    from mteb.models import CrossEncoderProtocol, EncoderProtocol, SearchProtocol

    from rerank_eval.mteb import mteb_model

    task = task_of(name, rows)
    split = task.eval_splits[0]
    with mteb_model(source, **options) as model:
        result = mteb.evaluate(
            model, task, cache=mteb.ResultCache(folder), prediction_folder=folder, show_progress_bar=False
        )
        protocols = (CrossEncoderProtocol, EncoderProtocol, SearchProtocol)
        fulfils = [one.__name__ for one in protocols if isinstance(model, one)]
        meta = {**model.mteb_model_meta.to_dict(), "fingerprint": model.reranker.fingerprint}
    (file,) = Path(folder).glob("*_predictions.json")
    scores = json.loads(file.read_text(encoding="utf-8"))["default"][split]
    qrels = task.dataset["default"][split]["relevant_docs"]
    found = calculate_retrieval_scores(scores, qrels, [10, 1000]).all_scores
    values = {key: [found[query][key] for query in qrels] for key in ("map_cut_1000", "ndcg_cut_10")}
    (own,) = result.task_results[0].scores[split]
    return {"result": own, "values": values, "protocols": fulfils, "meta": json.loads(json.dumps(meta, default=str))}


def by_command(arguments: list[str], results: str) -> Row:
    """`rerank eval` with results in mteb's format: its JSON, and mteb's file of each task."""
    import contextlib
    import io

    from rerank_core.cli import app

    printed = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        app(["eval", *arguments, "--mteb-results", results, "--json"], prog_name="rerank")
    printed.seek(0)
    files = Path(results).glob("results/*/*/*.json")
    return {
        "evaluation": json.loads(printed.read()),
        "files": {
            f"{file.parent.parent.name}/{file.parent.name}/{file.name}": json.loads(file.read_text(encoding="utf-8"))
            for file in files
        },
    }


def same_set(name: str, rows: list[Row], folder: str) -> list[str]:
    """In what the data of a folder differs from mteb's own conversion of the same rows."""
    from rerank_eval.suites.folder import read_task
    from rerank_eval.suites.hub import set_of_split
    from rerank_eval.suites.tasks import tasks_of

    (task,) = tasks_of([name])
    ours = read_task(Path(folder), task)
    theirs = set_of_split(name, task_of(name, rows).dataset["default"][task.split])
    pairs = [(ours.name, theirs.name), (ours.order, theirs.order), (len(ours.queries), len(theirs.queries))]
    for own, other in zip(ours.queries, theirs.queries, strict=True):
        pairs += [(own.id, other.id), (own.text, other.text), (own.others, other.others)]
        pairs.append(tuple([(one.text, one.gain) for one in query.candidates] for query in (own, other)))
    return [f"{own!r} is not {other!r}" for own, other in pairs if own != other]


def search(source: str, options: Row, corpus: list[Row], queries: list[Row], qrels: Row) -> Row:
    """A retrieval task without candidates: mteb's scores of the whole corpus."""
    import mteb
    from datasets import Dataset
    from mteb.abstasks import AbsTaskRetrieval

    from rerank_eval.mteb import mteb_model

    published = mteb.get_task("SciFact")

    class Task(AbsTaskRetrieval):
        metadata = published.metadata

    task = Task()
    task.dataset = {
        "default": {
            "test": {
                "corpus": Dataset.from_list(corpus),
                "queries": Dataset.from_list(queries),
                "relevant_docs": qrels,
                "top_ranked": None,
            }
        }
    }
    task.data_loaded = True
    with mteb_model(source, **options) as model:
        result = mteb.evaluate(model, task, cache=None, show_progress_bar=False)
    (own,) = result.task_results[0].scores["test"]
    return {"result": own}


CALLS: dict[str, Callable[..., Any]] = {one.__name__: one for one in (by_mteb, by_command, same_set, search)}


def main() -> None:
    sys.path.extend(path for path in json.loads(sys.argv[1]) if path and path not in sys.path)
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what mteb prints
    for line in sys.stdin:
        request = json.loads(line)
        answer = CALLS[request.pop("call")](**request)
        replies.write(json.dumps(answer) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
