"""Checks training data: every row is read once, and every problem is reported with its file, line and kind."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
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
    """Which problems are looked for, and what happens to rows with errors.

    Attributes:
        label_scale: labels outside this scale are errors; None allows any label.
        max_query: queries longer than this get a warning; in tokens if ``count`` is set, otherwise in characters.
        count: returns the number of tokens of a query.
        on_error: what `apply_on_error` does with rows that have errors. ``error`` stops; ``drop`` leaves them all out;
            ``warn`` leaves out rows that cannot be used (``report.UNUSABLE``: unreadable, a blank query, a number that
            is not finite or outside the scale) and trains on the others as they are.
        as_errors: kinds of warnings that are treated as errors.
        ignored: kinds of warnings about a row that mean nothing here, such as a single document in a text pair.
        examples: problems per kind whose text is stored, so that a bad file of millions of rows does not fill memory;
            all are counted. None stores all.

    Raises:
        InputError: an unknown value of an option, or a limit below 1.
    """

    label_scale: LabelScale | None = None
    max_query: int | None = None
    count: Callable[[str], int] | None = None
    on_error: OnError = "error"
    as_errors: frozenset[str] = frozenset()
    ignored: frozenset[str] = frozenset()
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
    eval_stores: Sequence[RowStore] = (),
    progress: Progress | None = None,
) -> Report:
    """Report every problem in training data. Bad rows raise nothing here; `apply_on_error` raises for them.

    Memory: a few bytes per row, not its texts. Two rows or texts count as equal if their 64-bit hashes are equal.

    Args:
        data: a store, or the paths of its files.
        eval_stores: evaluation rows, which must not be in the training data. Queries and documents are compared after
            normalising case, character width and white space. Its unreadable rows are reported as well.
        progress: called with the number of rows done and the total.
    """
    store = data if isinstance(data, RowStore) else open_rows(data)
    return _Check(store, options or CheckOptions(), eval_stores, progress or (lambda done, total: None)).run()


def apply_on_error(store: RowStore, report: Report) -> RowStore:
    """Select the rows to train on, according to the report's ``on_error``.

    Raises:
        InputError: there are errors and ``on_error`` is ``error``, no row is left, or the report is of other data.
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
    """The range of the labels and the setting for it, as the end of a message; empty if all labels are in the scale."""
    labels = report.raw_labels
    if "label-out-of-range" not in report.counts or labels.constant:
        return ""
    span = f". The labels go from {labels.low:g} to {labels.high:g}"
    if report.signal.scale is not None and report.signal.scale.grades is not None:
        return f"{span}: data.label_map must have an entry for each of them"
    limits = f"{min(0.0, labels.low):g},{labels.high:g}"
    return f"{span}: data.label_range=[{limits}] (`--label-range {limits}`)"


class _Check:
    def __init__(
        self, store: RowStore, options: CheckOptions, eval_stores: Sequence[RowStore], progress: Progress
    ) -> None:
        self.store, self.options, self.progress = store, options, progress
        # (store, index) of each evaluation row, as one number that the hash indices hold.
        self.eval_stores, self.eval_starts = eval_stores, [0, *accumulate(map(len, eval_stores))]
        self.report = Report(
            options.on_error, len(store), options.as_errors, signal=TrainingSignal(options.label_scale)
        )
        self.total = len(store) + self.eval_starts[-1]
        self.done = 0
        self.queries, self.pairs = HashIndex(), HashIndex()
        self.hashes, self.hashed_rows = array("Q"), array("Q")
        self.unread: dict[tuple[str, str], _UnreadKey] = {}

    def run(self) -> Report:
        for eval_store, start in zip(self.eval_stores, self.eval_starts, strict=False):
            self._read_eval(eval_store, start)
        sources: Counter[str] = Counter()
        formats: Counter[str] = Counter()
        for index in range(len(self.store)):
            try:
                records = self.store.records(index)
                row = self.store.to_row(index, records)
            except RowError as error:
                self._add_row_error(error, self.store, index)
            else:
                sources[row.source or ""] += 1
                formats[format_of(records[0])] += 1
                self.report.texts.add(row)
                self._note_unread(index, records, row)
                for finding in self._findings(row):
                    if finding.kind not in self.options.ignored:
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
        for (file, key), rows in self.unread.items():
            self._report_unread(file, key, rows)
        self.report.sources, self.report.formats = dict(sources), dict(formats)
        self.report.error_rows = _sorted_unique(self.report.error_rows)
        self.report.unusable_rows = _sorted_unique(self.report.unusable_rows)
        return self.report

    def _read_eval(self, store: RowStore, start: int) -> None:
        for index in range(len(store)):
            try:
                row = store[index]
            except RowError as error:
                self._add_row_error(error, store, None)
            else:
                query = normalise(row.query)
                self.queries.add(digest(query), start + index)
                for doc in row.docs:
                    self.pairs.add(digest(query, normalise(doc)), start + index)
            self._step()

    def _findings(self, row: TrainingRow) -> Iterator[Finding]:
        yield from check_row(row, self.options.label_scale)
        if self.options.max_query is not None:
            finding = check_query_length(row, self.options.max_query, self.options.count)
            if finding is not None:
                yield finding
        if self.eval_stores:
            yield from self._leaks(row)

    def _eval_location(self, number: int) -> str:
        """File and line of an evaluation row."""
        store = bisect_right(self.eval_starts, number) - 1
        return ":".join(map(str, self.eval_stores[store].location(number - self.eval_starts[store])))

    def _leaks(self, row: TrainingRow) -> Iterator[Finding]:
        query = normalise(row.query)
        same_query = self.queries.find(digest(query))
        if same_query is None:
            return
        pairs = [self.pairs.find(digest(query, normalise(doc))) for doc in row.docs]
        leaked = [(doc, index) for doc, index in enumerate(pairs) if index is not None]
        if leaked:
            doc, index = leaked[0]
            where = self._eval_location(index)
            message = (
                f"its query and {len(leaked)} of its {len(pairs)} documents are in the evaluation data, in {where}"
            )
            yield Finding("pair-in-eval", message, doc)
        else:
            where = self._eval_location(same_query)
            yield Finding("query-in-eval", f"its query is in the evaluation data with other documents, in {where}")

    def _repeated_rows(self) -> None:
        for repeat, first in find_repeats(self.hashes):
            where = ":".join(map(str, self.store.location(self.hashed_rows[first])))
            self._add(self.hashed_rows[repeat], Finding("duplicate-row", f"it has the query and documents of {where}"))

    def _note_unread(self, index: int, records: Sequence[Record], row: TrainingRow) -> None:
        for record in records:
            for key in unread_keys(record):
                file, line = self.store.location(index)
                rows = self.unread.setdefault((file, key), _UnreadKey(line, format_of(record)))
                rows.add(index, row, record)

    def _report_unread(self, file: str, key: str, unread: _UnreadKey) -> None:
        """Report a key that no format reads: a warning, or an error if it may be why all labels are equal."""
        message = f"the format {unread.form} does not read {key!r}, which {unread.count} rows of this file have"
        near = [known for known in keys_of_format(unread.form) if known not in unread.keys and similar_keys(key, known)]
        guess = f" (did you mean {' or '.join(map(repr, near))}?)" if near else ""
        signal = self.report.signal
        # Rows with a teacher's scores that differ may have equal labels on purpose.
        rows = (
            unread.rows
            if unread.labels_equal and (near or (signal.labels.constant and not signal.scores.varied_rows))
            else ()
        )
        if rows:
            guess = f", and all of their labels are {unread.labels.low:g}{guess or '; rename it, or leave it out'}"
        self._problem("unread-keys", file, unread.line, message + guess, error=bool(rows))
        self.report.error_rows.extend(rows)

    def _add_row_error(self, error: RowError, store: RowStore, index: int | None) -> None:
        """Report an unreadable row; ``index`` is None for a row of the evaluation data, which is not left out."""
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


class _UnreadKey:
    """The rows of a file that have a key which their format does not read; ``rows`` is emptied when labels differ."""

    def __init__(self, line: int, form: str) -> None:
        self.line, self.form, self.count = line, form, 0
        self.labels, self.rows = ValueRange(), array("Q")
        self.keys: set[str] = set()

    def add(self, index: int, row: TrainingRow, record: Record) -> None:
        """Count a row."""
        self.count += 1
        self.keys.update(key for key, value in record.items() if value is not None)
        if row.labels is not None:
            self.labels.add(row.labels)
        if self.labels_equal:
            self.rows.append(index)
        else:
            del self.rows[:]

    @property
    def labels_equal(self) -> bool:
        """Whether every row has labels and all labels are equal."""
        return self.labels.constant and self.labels.rows == self.count


def _sorted_unique(rows: array[int]) -> array[int]:
    return array("Q", np.unique(np.frombuffer(rows, dtype=np.uint64)).tobytes())
