"""The kinds of problems in training data, and the report that lists them."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from rerank_trainers.checks.text_counts import TextCounts
from rerank_trainers.checks.training_signal import TrainingSignal, ValueRange

__all__ = ["KINDS", "UNUSABLE", "OnError", "Problem", "Report", "Severity"]

Severity: TypeAlias = Literal["error", "warning"]
OnError: TypeAlias = Literal["error", "drop", "warn"]

# Kinds of errors whose rows cannot be used with any `on_error`: they cannot be read, or training would stop at them.
_UNREADABLE: Mapping[str, str] = {
    "not-utf-8": "bytes that are not UTF-8",
    "broken-json": "a line that is not JSON",
    "not-an-object": "JSON, but not an object",
    "tsv-columns": "a number of columns that is not the expected one",
    "unknown-format": "keys of no known format",
    "ambiguous-format": "keys of several formats, or two keys with the same meaning",
    "not-a-string": "null or another value where a text is expected",
    "string-for-list": "a text where a list of texts is expected",
    "not-a-list": "another value where a list is expected",
    "not-a-number": "a label or score that is not a number",
    "length-mismatch": "more or fewer labels or scores than documents",
    "no-docs": "no documents",
    "no-label": "neither label nor score",
    "no-query": "a conversation without a user",
    "not-one-text": "a candidate conversation with no text, or several",
    "empty-query": "a blank query",
    "lone-surrogate": "half a character (a lone surrogate), which no tokenizer reads",
    "not-finite": "a label or score that is NaN or infinite",
    "label-out-of-range": "a label outside the label scale",
}
_WRONG: Mapping[str, str] = {
    "empty-doc": "a blank document",
    "positive-in-negatives": "the same text with different labels in one row",
    "pair-in-eval": "a query and a document that are both in the evaluation data",
}
_DOUBTFUL: Mapping[str, str] = {
    "query-in-eval": "a query that is in the evaluation data, with other documents",
    "duplicate-docs": "the same document twice in one row",
    "duplicate-row": "the same query and documents as another row",
    "all-equal": "documents with equal labels or scores: no signal for pairwise and listwise objectives",
    "single-doc": "a single document: no signal for pairwise and listwise objectives",
    "unlabeled": "neither labels nor scores",
    "doubled-prompt": "a text that already begins with its prompt, which is put before it",
    "long-query": "a query longer than the limit",
    "unread-keys": "a key that no format reads: misspelled, or not needed",
}

KINDS: Mapping[str, tuple[Severity, str]] = {
    **{kind: ("error", what) for kind, what in (*_UNREADABLE.items(), *_WRONG.items())},
    **{kind: ("warning", what) for kind, what in _DOUBTFUL.items()},
}
UNUSABLE = frozenset(_UNREADABLE)


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem with its position.

    Attributes:
        kind: one of ``KINDS``.
        line: counted from 1; the row in Parquet.
    """

    kind: str
    severity: Severity
    file: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}"


@dataclass
class Report:
    """The result of `check.check`.

    Attributes:
        on_error: what happens to rows with errors; see `CheckOptions`.
        rows: number of rows checked.
        as_errors: kinds of warnings that were treated as errors.
        sources, formats: number of readable rows by source and by format.
        texts: how many texts the rows have and share.
        counts, error_counts: number of problems, and of errors among them, by kind.
        problems: the first problems of each kind in the order of the rows, at most ``CheckOptions.examples`` per kind.
        error_rows: ascending indices of rows with an error, in the store that was checked.
        unusable_rows: those among ``error_rows`` that cannot be used with any ``on_error``.
        signal: ranges of the labels and scores of the rows that are not left out.
        raw_labels: range of the labels of all rows as they are in the files.
    """

    on_error: OnError
    rows: int
    as_errors: frozenset[str] = frozenset()
    sources: dict[str, int] = field(default_factory=dict)
    formats: dict[str, int] = field(default_factory=dict)
    texts: TextCounts = field(default_factory=TextCounts)
    counts: dict[str, int] = field(default_factory=dict)
    error_counts: dict[str, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    error_rows: array[int] = field(default_factory=lambda: array("Q"))
    unusable_rows: array[int] = field(default_factory=lambda: array("Q"))
    signal: TrainingSignal = field(default_factory=TrainingSignal)
    raw_labels: ValueRange = field(default_factory=ValueRange)

    def severity(self, kind: str) -> Severity:
        """The severity of a kind in this report."""
        return "error" if kind in self.as_errors or kind in self.error_counts else KINDS[kind][0]

    @property
    def errors(self) -> int:
        """Number of errors; a row may have several."""
        return sum(self.error_counts.values())

    @property
    def warnings(self) -> int:
        """Number of warnings."""
        return sum(self.counts.values()) - self.errors

    @property
    def left_out(self) -> array[int]:
        """Rows that training leaves out: with ``drop`` all rows with an error, otherwise the unusable ones."""
        return self.error_rows if self.on_error == "drop" else self.unusable_rows

    def add(self, problem: Problem, limit: int | None) -> None:
        """Count a problem, and store it if fewer than ``limit`` of its kind are stored."""
        count = self.counts.get(problem.kind, 0)
        self.counts[problem.kind] = count + 1
        if problem.severity == "error":
            self.error_counts[problem.kind] = self.error_counts.get(problem.kind, 0) + 1
        if limit is None or count < limit:
            self.problems.append(problem)

    def problems_of(self, kind: str) -> list[Problem]:
        """The stored problems of a kind."""
        return [problem for problem in self.problems if problem.kind == kind]

    def summary(self, examples: int = 3) -> str:
        """One line: the number of errors by kind, and the first of them."""
        counts = ", ".join(
            f"{count} {kind}" for kind, count in sorted(self.error_counts.items(), key=lambda item: -item[1])
        )
        shown = [str(problem) for problem in self.problems if problem.severity == "error"][:examples]
        return f"{len(self.error_rows)} of {self.rows} rows have errors ({counts}). First: {'; '.join(shown)}"

    def as_text(self, examples: int = 3) -> str:
        """All kinds of problems with their counts, errors first, and the first ``examples`` problems of each; empty
        without problems."""
        kinds = sorted(self.counts, key=lambda kind: (self.severity(kind), -self.counts[kind], kind))
        if not kinds:
            return ""
        lines = [f"{self.rows:,} rows: {self.errors:,} errors, {self.warnings:,} warnings"]
        for kind in kinds:
            lines.append(f"  {self.severity(kind)}: {self.counts[kind]:,} {kind} ({KINDS[kind][1]})")
            lines += [f"    {problem}" for problem in self.problems_of(kind)[:examples]]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        kinds = sorted(self.counts, key=lambda kind: (self.severity(kind), -self.counts[kind], kind))
        return {
            "rows": self.rows,
            "errors": self.errors,
            "warnings": self.warnings,
            "rows_with_errors": len(self.error_rows),
            "on_error": self.on_error,
            "rows_left_out": len(self.left_out),
            "sources": self.sources,
            "formats": self.formats,
            "texts": self.texts.to_dict(),
            "kinds": [
                {"kind": kind, "severity": self.severity(kind), "count": self.counts[kind], "what": KINDS[kind][1]}
                for kind in kinds
            ],
            "problems": [
                {
                    "kind": problem.kind,
                    "severity": problem.severity,
                    "file": problem.file,
                    "line": problem.line,
                    "message": problem.message,
                }
                for problem in self.problems
            ],
        }
