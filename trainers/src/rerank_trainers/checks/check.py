"""Is this data fit to train on? Every row is read once, and every problem named with its file, line and kind."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rerank_core.errors import InputError, one_of
from rerank_core.progress import Progress
from rerank_core.records.fields import Record, RowError
from rerank_core.records.label_scale import LabelScale
from rerank_core.records.row_formats import format_of, keys_of_format, unread_keys
from rerank_core.records.training_row import TrainingRow
from rerank_trainers.checks.report import KINDS, UNUSABLE, OnError, Problem, Report, Severity
from rerank_trainers.checks.row_checks import Finding, check_query_length, check_row, similar_keys
from rerank_trainers.checks.training_signal import TrainingSignal, ValueRange
from rerank_trainers.data.hashing import HashIndex, digest, find_repeats, normalise
from rerank_trainers.data.row_store import RowStore, open_rows

__all__ = ["CheckOptions", "apply_on_error", "check"]


@dataclass(frozen=True)
class CheckOptions:
    """What counts as a problem, and what is done about errors.

    Attributes:
        label_scale: labels outside it are errors; None where labels may be anything.
        max_query: longer queries are warned of; in tokens as ``count`` counts them, else in characters.
        on_error: what `apply_on_error` does with rows that have errors. ``error`` stops; ``drop`` leaves them all out;
            ``warn`` leaves out those that nothing can be made of (``problems.UNUSABLE``: unreadable, a blank query, a
            number that is not finite or outside the scale) and trains on the others as they are.
        as_errors: kinds of warnings to take as errors.
        examples: problems of a kind whose text is kept, so that a bad file of millions of rows does not fill memory;
            all are counted. None keeps all.

    Raises:
        InputError: an option of an unknown name or a limit below 1.
    """

    label_scale: LabelScale | None = None
    max_query: int | None = None
    count: Callable[[str], int] | None = None
    on_error: OnError = "error"
    as_errors: frozenset[str] = frozenset()
    examples: int | None = 1000

    def __post_init__(self) -> None:
        one_of(self.on_error, ("error", "drop", "warn"), "on_error")
        for kind in sorted(self.as_errors):
            one_of(kind, list(KINDS), "a kind in as_errors")
        for name in ("max_query", "examples"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} is {value!r}; it must be at least 1")


def check(
    data: RowStore | Sequence[str | Path],
    options: CheckOptions | None = None,
    eval_store: RowStore | None = None,
    progress: Progress | None = None,
) -> Report:
    """Everything that is wrong with training data. It never raises for what a row holds; `apply_on_error` does.

    A few bytes a row are kept, not its texts. Two rows or texts are the same where 64 bits of their hashes are.

    Args:
        data: a store, or the paths of one.
        eval_store: rows to be evaluated on, which training must not have seen. Queries and documents are compared
            without case, width and white space. Rows of it that cannot be read are reported as well.
        progress: called with rows done and rows in all.
    """
    store = data if isinstance(data, RowStore) else open_rows(data)
    return _Check(store, options or CheckOptions(), eval_store, progress or (lambda done, total: None)).run()


def apply_on_error(store: RowStore, report: Report) -> RowStore:
    """The rows to train on, as the ``on_error`` of the report's options says.

    Raises:
        InputError: errors, where they are to stop training; no row is left; or a report of other data.
    """
    if report.rows != len(store):
        raise InputError(f"the report is of {report.rows} rows, and the data has {len(store)}; check it again")
    if report.on_error == "error" and report.errors:
        raise InputError(
            f"{report.summary()}. `rerank train check` lists all; data.on_error=drop (`--on-error drop`) leaves such "
            f"rows out{_range(report)}"
        )
    if len(report.left_out) == len(store):
        raise InputError(f"no row is left: {report.summary()}")
    return store.drop(report.left_out)


def _range(report: Report) -> str:
    """How to say which labels there are, where some lie outside the scale."""
    span = report.raw_labels
    if "label-out-of-range" not in report.counts or span.constant:
        return ""
    if report.signal.scale is not None and report.signal.scale.grades is not None:
        return f". The labels go from {span.low:g} to {span.high:g}: data.label_map must list what each of them becomes"
    told = f"{min(0.0, span.low):g},{span.high:g}"
    return f". The labels go from {span.low:g} to {span.high:g}: data.label_range=[{told}] (`--label-range {told}`)"


class _Check:
    def __init__(self, store: RowStore, options: CheckOptions, eval_store: RowStore | None, progress: Progress) -> None:
        self.store, self.options, self.eval_store, self.progress = store, options, eval_store, progress
        self.report = Report(
            options.on_error, len(store), options.as_errors, signal=TrainingSignal(options.label_scale)
        )
        self.total = len(store) + (0 if eval_store is None else len(eval_store))
        self.done = 0
        self.queries, self.pairs = HashIndex(), HashIndex()
        self.hashes, self.hashed_rows = array("Q"), array("Q")
        self.unread: dict[tuple[str, str], _Unread] = {}

    def run(self) -> Report:
        if self.eval_store is not None:
            self._read_eval(self.eval_store)
        sources: Counter[str] = Counter()
        formats: Counter[str] = Counter()
        for index in range(len(self.store)):
            try:
                records = self.store.records(index)
                row = self.store.to_row(index, records)
            except RowError as error:
                self._failed(error, self.store, index)
            else:
                sources[row.source or ""] += 1
                formats[format_of(records[0])] += 1
                self._note_unread(index, records, row)
                for finding in self._found(row):
                    self._add(index, finding)
                left_out = self.report.left_out
                if not left_out or left_out[-1] != index:
                    self.report.signal.add(row)
                if row.labels is not None and all(map(math.isfinite, row.labels)):
                    self.report.raw_labels.add(row.labels)
                self.hashes.append(digest(row.instruction, row.query, *sorted(row.docs)))
                self.hashed_rows.append(index)
            self._step()
        self._repeated_rows()
        for (file, key), found in self.unread.items():
            self._report_unread(file, key, found)
        self.report.sources, self.report.formats = dict(sources), dict(formats)
        self.report.error_rows = _once(self.report.error_rows)
        self.report.unusable_rows = _once(self.report.unusable_rows)
        return self.report

    def _read_eval(self, store: RowStore) -> None:
        for index in range(len(store)):
            try:
                row = store[index]
            except RowError as error:
                self._failed(error, store, None)
            else:
                query = normalise(row.query)
                self.queries.add(digest(query), index)
                for doc in row.docs:
                    self.pairs.add(digest(query, normalise(doc)), index)
            self._step()

    def _found(self, row: TrainingRow) -> Iterator[Finding]:
        yield from check_row(row, self.options.label_scale)
        if self.options.max_query is not None:
            finding = check_query_length(row, self.options.max_query, self.options.count)
            if finding is not None:
                yield finding
        if self.eval_store is not None:
            yield from self._leaks(row, self.eval_store)

    def _leaks(self, row: TrainingRow, store: RowStore) -> Iterator[Finding]:
        query = normalise(row.query)
        seen = self.queries.find(digest(query))
        if seen is None:
            return
        pairs = [self.pairs.find(digest(query, normalise(doc))) for doc in row.docs]
        leaked = [(doc, place) for doc, place in enumerate(pairs) if place is not None]
        if leaked:
            doc, place = leaked[0]
            where = ":".join(map(str, store.location(place)))
            message = f"its query and {len(leaked)} of its {len(pairs)} documents are evaluated on, in {where}"
            yield Finding("pair-in-eval", message, doc)
        else:
            where = ":".join(map(str, store.location(seen)))
            yield Finding("query-in-eval", f"its query is evaluated on with other documents, in {where}")

    def _repeated_rows(self) -> None:
        for place, first in find_repeats(self.hashes):
            where = ":".join(map(str, self.store.location(self.hashed_rows[first])))
            self._add(self.hashed_rows[place], Finding("duplicate-row", f"it has query and documents of {where}"))

    def _note_unread(self, index: int, records: Sequence[Record], row: TrainingRow) -> None:
        for record in records:
            for key in unread_keys(record):
                file, line = self.store.location(index)
                found = self.unread.setdefault((file, key), _Unread(line, format_of(record)))
                found.add(index, row, record)

    def _report_unread(self, file: str, key: str, found: _Unread) -> None:
        """A key that nobody reads is a warning; an error where it can be why labels are all the same."""
        message = f"the format {found.form} does not read {key!r}, which {found.count} rows of this file have"
        near = [known for known in keys_of_format(found.form) if known not in found.keys and similar_keys(key, known)]
        guess = f" (did you mean {' or '.join(map(repr, near))}?)" if near else ""
        signal = self.report.signal
        # Where a teacher's scores differ, labels may be all alike for a reason.
        rows = found.rows if found.same and (near or (signal.labels.constant and not signal.scores.apart)) else ()
        if rows:
            guess = f", and all of their labels are {found.labels.low:g}{guess or '; rename it, or leave it out'}"
        self._problem("unread-keys", file, found.line, message + guess, error=bool(rows))
        self.report.error_rows.extend(rows)

    def _failed(self, error: RowError, store: RowStore, index: int | None) -> None:
        """Report a row that cannot be read; one of the evaluation data has no ``index`` to leave out."""
        file, line = store.location(index or 0)
        if error.file is not None and error.line is not None:
            file, line = error.file, error.line
        self._problem(error.kind, file, line, error.reason, index)

    def _add(self, index: int, finding: Finding) -> None:
        self._problem(finding.kind, *self.store.location(index, finding.doc), finding.message, index)

    def _problem(
        self, kind: str, file: str, line: int, message: str, index: int | None = None, *, error: bool = False
    ) -> None:
        severity: Severity = "error" if error or kind in self.options.as_errors else KINDS[kind][0]
        self.report.add(Problem(kind, severity, file, line, message), self.options.examples)
        if index is not None and severity == "error":
            self.report.error_rows.append(index)
            if kind in UNUSABLE:
                self.report.unusable_rows.append(index)

    def _step(self) -> None:
        self.done += 1
        self.progress(self.done, self.total)


class _Unread:
    """Rows of a file that have a key which their format does not read; ``rows`` while all of their labels are the
    same."""

    def __init__(self, line: int, form: str) -> None:
        self.line, self.form, self.count = line, form, 0
        self.labels, self.rows = ValueRange(), array("Q")
        self.keys: set[str] = set()

    def add(self, index: int, row: TrainingRow, record: Record) -> None:
        """One more row."""
        self.count += 1
        self.keys.update(key for key, value in record.items() if value is not None)
        if row.labels is not None:
            self.labels.add(row.labels)
        if self.same:
            self.rows.append(index)
        else:
            del self.rows[:]

    @property
    def same(self) -> bool:
        """Whether every row has labels, and all of them are one."""
        return self.labels.constant and self.labels.rows == self.count


def _once(rows: array[int]) -> array[int]:
    return array("Q", np.unique(np.frombuffer(rows, dtype=np.uint64)).tobytes())
