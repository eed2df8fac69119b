"""`read_set`: from the value of ``--data`` to a `JudgedSet`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from rerank_core import InputError
from rerank_eval.sets.beir import beir_files, is_beir
from rerank_eval.sets.cleaning import count_candidates, drawn, fault_of, shuffled, without_own_text
from rerank_eval.sets.judged_set import JudgedQuery, JudgedSet, SetFacts
from rerank_eval.sets.retrieval import from_bm25, from_run
from rerank_eval.sets.rows import pooled, read_rows
from rerank_eval.sets.source import Source, parse_source
from rerank_eval.sets.texts import Documents, read_documents, read_queries
from rerank_eval.sets.trec import read_qrels, read_run

__all__ = ["read_set", "read_sets"]

_TOP = 100


def read_sets(
    specs: Sequence[str],
    *,
    top: int | None = None,
    queries: int | None = None,
    seed: int = 0,
    need_labels: bool = True,
    encoding: str | None = None,
) -> list[JudgedSet]:
    """Read several sets; see `read_set`.

    Raises:
        InputError: as `read_set`, or two sets have the same name.
    """
    names = [parse_source(spec).name for spec in specs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"two sets have the name {twice!r}; give each a name: --data NAME=PATH")
    read = partial(read_set, top=top, queries=queries, seed=seed, need_labels=need_labels, encoding=encoding)
    return [read(spec) for spec in specs]


def read_set(
    spec: str,
    *,
    top: int | None = None,
    queries: int | None = None,
    seed: int = 0,
    need_labels: bool = True,
    encoding: str | None = None,
) -> JudgedSet:
    """Read one set.

    Args:
        spec: the value of ``--data``; see `sets.source`.
        top: most candidates of a query from a first stage: of BM25 100 by default, of a run all.
        queries: read a random sample of this many usable queries.
        seed: of the sample, and of the order of candidates that no first stage ordered.
        need_labels: leave out queries without judgements, positives or negatives. False where a judge or a file of
            labels follows, after which `judging` leaves them out.
        encoding: of files that are not UTF-8, where it cannot be detected.

    Raises:
        InputError: a file cannot be read or has a faulty record, a text is missing, or no query is left.
        MissingDependencyError: a library for the format or for BM25 is not installed.
    """
    for name, number in (("top", top), ("queries", queries)):
        if number is not None and number < 1:
            raise InputError(f"{name} is {number!r}; it must be at least 1")
    source = parse_source(spec)
    reading = _Reading(source, top, queries, seed, need_labels, encoding)
    return reading.collection() if source.path is None or is_beir(source.path) else reading.rows(source.path)


@dataclass
class _Reading:
    """Reads one source, and counts what it meets."""

    source: Source
    top: int | None
    sample: int | None
    seed: int
    need_labels: bool
    encoding: str | None
    counts: Counter[str] = field(default_factory=Counter)
    unread_keys: tuple[str, ...] = ()

    def rows(self, path: str) -> JudgedSet:
        """A file of rows: the documents of a row are its candidates, or with ``candidates=bm25`` all are searched."""
        self.source.refuse(("queries", "qrels", "run", "split"), "rows have queries and judgements of their own")
        scores, search = self.source.get("scores"), self.source.get("candidates") is not None
        found = read_rows(path, scores, self.counts, self.encoding)
        self.counts["read"], self.unread_keys = len(found.queries), tuple(sorted(found.unread_keys))
        if search:
            self.source.refuse(("scores",), "candidates=bm25 takes the scores of BM25")
            named = self.source.get("docs")
            more = Documents({}) if named is None else read_documents(named, encoding=self.encoding)
            queries, texts = pooled(found.queries, more.texts)
            return self._searched(queries, Documents(texts, more.starts))
        self.source.refuse(("docs",), "documents are searched with candidates=bm25")
        queries = [without_own_text(query, self.counts) for query in found.queries]
        kept = self._sample(self._without_faults(queries, retrieved=False))
        if not kept and found.scored and scores == "first-stage":
            raise InputError(
                f"data {self.source.name!r} has the scores of a retriever and no labels; give labels with --judge, "
                "--judge-url or --labels"
            )
        if not kept and found.scored:
            raise InputError(
                f"data {self.source.name!r} has scores and no labels; add scores=gains if the scores say how relevant "
                "a document is, or scores=first-stage if they are a retriever's and a judge gives the labels"
            )
        if scores != "first-stage":
            return self._set([shuffled(query, self.seed) for query in kept], None)
        return self._set([self._sorted(query) for query in kept], "file")

    def collection(self) -> JudgedSet:
        """Queries, documents and judgements in files of their own."""
        self.source.refuse(("candidates", "scores"), "it is for files of rows")
        if self.source.path is None:
            self.source.refuse(("split",), "it is for BEIR folders")
        given = {key: Path(self.source.given[key]) for key in ("docs", "queries", "qrels") if key in self.source.given}
        path, split = self.source.path, self.source.get("split")
        found: AbstractContextManager[dict[str, Path]] = (
            nullcontext({}) if path is None else beir_files(path, split, frozenset(given))
        )
        with found as files:
            return self._collection({**files, **given})

    def _collection(self, files: Mapping[str, Path]) -> JudgedSet:
        if "qrels" not in files and self.need_labels:
            raise InputError(f"data {self.source.name!r} has no judgements; name them with qrels=, or use a judge")
        qrels = read_qrels(files["qrels"], self.counts, self.encoding) if "qrels" in files else {}
        named = self.source.get("run")
        run = None if named is None else read_run(Path(named), self.counts, self.encoding)
        texts = read_queries(files["queries"], self.encoding)
        ids = list(dict.fromkeys([*(run or ()), *qrels])) or list(texts)
        missing = [key for key in ids if key not in texts]
        if missing:
            raise InputError(
                f"{len(missing):,} queries of the judgements or the run have no text in {str(files['queries'])!r}, the "
                f"first is {missing[0]!r}; give the file of their texts"
            )
        self.counts["read"] = len(ids)
        queries = [JudgedQuery(key, texts[key], (), qrels.get(key, {})) for key in ids]
        if run is None:
            return self._searched(queries, read_documents(files["docs"], encoding=self.encoding))
        queries = self._without_faults(queries, retrieved=True)
        found = [query for query in queries if query.id in run]
        self.counts["without_candidates"] += len(queries) - len(found)
        queries = self._sample(found)
        wanted = {key for query in queries for key, _ in run[query.id]}
        documents = read_documents(files["docs"], wanted, self.encoding)
        return self._set(from_run(queries, run, documents, self.top, self.counts), Path(named or "").stem)

    def _searched(self, queries: Sequence[JudgedQuery], documents: Documents) -> JudgedSet:
        """A set whose candidates BM25 finds."""
        kept = self._sample(self._without_faults(queries, retrieved=True))
        return self._set(from_bm25(kept, documents, self.top or _TOP, self.counts), "BM25")

    def _without_faults(self, queries: Iterable[JudgedQuery], *, retrieved: bool) -> list[JudgedQuery]:
        if not self.need_labels:
            return list(queries)
        kept: list[JudgedQuery] = []
        for query in queries:
            fault = fault_of(query, retrieved=retrieved)
            if fault is None:
                kept.append(query)
            else:
                self.counts[fault] += 1
        return kept

    def _sample(self, queries: Sequence[JudgedQuery]) -> list[JudgedQuery]:
        return drawn(queries, self.sample, self.seed, self.counts)

    def _sorted(self, query: JudgedQuery) -> JudgedQuery:
        """The query with its candidates by the scores of the first stage, as far as ``top``; equal scores as in the
        file."""
        scores = [one.first_stage for one in query.candidates]
        if None in scores:
            raise InputError(
                f"{query.id}: {scores.count(None)} of its {len(scores)} documents have no score; scores=first-stage "
                "needs one for each"
            )
        best = sorted(query.candidates, key=lambda one: -(one.first_stage or 0.0))
        left = best[self.top :] if self.top is not None else []
        self.counts["below_top"] += len(left)
        others = {one.id: one.gain for one in left if one.gain is not None}
        return replace(query, candidates=tuple(best[: self.top]), others=others)

    def _set(self, queries: Sequence[JudgedQuery], first_stage: str | None) -> JudgedSet:
        kept = [query for query in queries if query.candidates]
        self.counts["without_candidates"] += len(queries) - len(kept)
        count_candidates(kept, self.counts)
        facts = SetFacts(**self.counts, unread_keys=self.unread_keys)
        if not kept:
            raise InputError(
                f"data {self.source.name!r} has no usable query: {'; '.join(facts.notes())}{_advice(facts)}"
            )
        return JudgedSet(
            self.source.name, tuple(kept), "shuffled" if first_stage is None else "first-stage", first_stage, facts
        )


def _advice(facts: SetFacts) -> str:
    if facts.unread_keys:
        return "; correct the names of the keys"
    if facts.without_negative:
        return "; candidates=bm25 searches the documents of the whole file, so that a query gets negatives"
    return "; give judgements, or use a judge" if facts.not_judged else ""
