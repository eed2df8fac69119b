"""Reads a task's data from a folder, in the forms in which data sets are downloaded.

``FOLDER/NAME.jsonl`` (or ``.parquet``, ``.jsonl.gz``, ...) and ``FOLDER/NAME/`` with such files anywhere below: rows
``{"query", "positive", "negative"}`` of C-MTEB, or any row that `rerank train` reads. ``FOLDER/NAME/`` with the folders
``corpus``, ``queries``, ``qrels`` and ``top_ranked``: mteb's form. NAME is the task's name, or that of its data set, in
any case.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from rerank_core import InputError
from rerank_core.records import Record, RowError, read_records, to_training_row
from rerank_eval.sets.judged_set import Candidate, JudgedQuery, JudgedSet
from rerank_eval.sets.texts import read_documents, read_queries
from rerank_eval.suites.make_set import make_set
from rerank_eval.suites.tasks import SuiteTask

__all__ = ["read_task"]

_FILE = re.compile(r"\.(jsonl|ndjson|parquet|pq)(\.(gz|zst|zstd|bz2|xz))?$", re.IGNORECASE)
_QRELS = ("qrels", "default", "data")


def read_task(
    folder: Path, task: SuiteTask, *, sample: int | None = None, seed: int = 0, encoding: str | None = None
) -> JudgedSet:
    """Read one task.

    Args:
        sample, seed: see `make_set`.
        encoding: of files that are not UTF-8.

    Raises:
        InputError: the folder or the data of the task is not there, is there twice, or cannot be read.
    """
    path = _data_of(folder, task)
    if path.is_dir() and (path / "corpus").is_dir():
        queries: Iterator[JudgedQuery] = _of_collection(path, task.split, encoding)
    else:
        queries = _of_rows(_files(path, task.split) if path.is_dir() else [path], task.split, encoding)
    return make_set(task.name, queries, sample=sample, seed=seed)


def _data_of(folder: Path, task: SuiteTask) -> Path:
    """The file or folder of a task."""
    if not folder.is_dir():
        raise InputError(f"{str(folder)!r} is no folder; --suite-data names the folder with the data of the tasks")
    names = {_plain(name) for name in (task.name, *task.other_names)}
    there = [path for path in sorted(folder.iterdir()) if path.is_dir() or _FILE.search(path.name)]
    found = [path for path in there if _plain(_FILE.sub("", path.name)) in names]
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(
            f"{str(folder)!r} has the data of {task.name} twice, in {' and '.join(repr(one.name) for one in found)}; "
            "keep one"
        )
    raise InputError(
        f"{str(folder)!r} has no data of {task.name}; it needs {task.name}.jsonl with rows of query, positive and "
        f"negative, or a folder {task.name} as it is downloaded. It has {[one.name for one in there]!r:.300}"
    )


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _files(folder: Path, split: str) -> list[Path]:
    """The files of a split; of a folder with one file, that file."""
    every = sorted(path for path in folder.rglob("*") if _FILE.search(path.name) and not path.name.startswith("."))
    own = [path for path in every if re.match(rf"{split}[-._]", path.name)]
    if not own and len(every) != 1:
        raise InputError(
            f"{str(folder)!r} has no file of the split {split!r}: its name must begin with {split}- or {split}., "
            f"such as {split}.jsonl. It has {[str(one.relative_to(folder)) for one in every]!r:.300}"
        )
    return own or every


def _of_rows(files: list[Path], split: str, encoding: str | None) -> Iterator[JudgedQuery]:
    """A query for each row. Ids are those of mteb's conversion, by which it breaks ties: negatives come first."""
    number = 0
    for path in files:
        for line, record in read_records(path, encoding=encoding):
            try:
                query = _of_row(record, f"{split}_query{number}")
            except RowError as error:
                raise error.at(str(path), line) from error
            number += len({bool(gain) for gain in query.gains}) == 2  # mteb numbers the queries that it keeps
            yield query


def _of_row(record: Record, key: str) -> JudgedQuery:
    positive, negative = record.get("positive"), record.get("negative")
    if isinstance(positive, list) and isinstance(negative, list):  # either may be empty
        query, texts = record.get("query"), [*positive, *negative]
        labels = [1.0] * len(positive) + [0.0] * len(negative)
        if not isinstance(query, str) or not query.strip() or not all(isinstance(text, str) for text in texts):
            raise RowError("the query must be a text, and positive and negative lists of texts", "not-a-string")
    else:
        row = to_training_row(record, row_id=key)
        if row.labels is None:
            raise RowError("its documents have no labels; it needs positive and negative documents", "no-labels")
        query, texts, labels = row.query, list(row.texts), [max(label, 0.0) for label in row.labels]
    candidates = tuple(
        Candidate(f"{'apositive' if label else 'negative'}_{key}_{at:05}", text.strip(), label)
        for at, (text, label) in enumerate(zip(texts, labels, strict=True))
    )
    return JudgedQuery(key, query, candidates)


def _of_collection(folder: Path, split: str, encoding: str | None) -> Iterator[JudgedQuery]:
    """The queries of mteb's form, each with its candidates of ``top_ranked``."""
    documents: dict[str, str] = {}
    for path in _files(folder / "corpus", split):
        documents.update(read_documents(path, encoding=encoding).texts)
    texts: dict[str, str] = {}
    for path in _files(folder / "queries", split):
        texts.update(read_queries(path, encoding))
    qrels: dict[str, dict[str, float]] = {}
    judged = next((folder / name for name in _QRELS if (folder / name).is_dir()), None)
    if judged is None or not (folder / "top_ranked").is_dir():
        raise InputError(
            f"{str(folder)!r} has a corpus, and not both qrels and top_ranked; download the whole data set"
        )
    for where, record in _records(judged, split, encoding):
        query, document = _key(record, "query-id", where), _key(record, "corpus-id", where)
        score = record.get("score")
        if isinstance(score, bool) or not isinstance(score, (int, float)):
            raise RowError(f"score is {score!r:.80}; it must be a number", "not-a-number", *where)
        qrels.setdefault(query, {})[document] = float(score)
    for where, record in _records(folder / "top_ranked", split, encoding):
        key, ranked = _key(record, "query-id", where), record.get("corpus-ids")
        if not isinstance(ranked, list) or any(one not in documents for one in ranked):
            raise RowError("corpus-ids must be a list of ids of the corpus", "bad-id", *where)
        if key not in qrels:
            continue
        if key not in texts:
            raise RowError(f"the query {key!r} has no text", "no-text", *where)
        own = qrels[key]
        candidates = tuple(Candidate(one, documents[one].strip(), max(own.get(one, 0.0), 0.0)) for one in ranked)
        others = {one: gain for one, gain in own.items() if one not in set(ranked) and gain > 0}
        yield JudgedQuery(key, texts[key], candidates, others)


def _records(folder: Path, split: str, encoding: str | None) -> Iterator[tuple[tuple[str, int], Record]]:
    for path in _files(folder, split):
        for line, record in read_records(path, encoding=encoding):
            yield (str(path), line), record


def _key(record: Record, name: str, where: tuple[str, int]) -> str:
    value = record.get(name)
    if not isinstance(value, str) or not value:
        raise RowError(f"{name} is {value!r:.80}; it must be a string", "bad-id", *where)
    return value
