"""What can be wrong with training data, and the report that says what is."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from rerank_trainers.checks.training_signal import TrainingSignal, ValueRange

__all__ = ["KINDS", "UNUSABLE", "OnError", "Problem", "Report", "Severity"]

Severity: TypeAlias = Literal["error", "warning"]
OnError: TypeAlias = Literal["error", "drop", "warn"]

# Rows that can never be used, whatever the user decides: nothing comes of them, or training would stop at them.
_UNREADABLE: Mapping[str, str] = {
    "not-utf-8": "bytes that are not UTF-8",
    "broken-json": "a line that is no JSON",
    "not-an-object": "JSON, but no object",
    "tsv-columns": "another number of columns than expected",
    "unknown-format": "keys of no known format",
    "ambiguous-format": "keys of several formats, or two that mean the same",
    "not-a-string": "null, or something else, where a text belongs",
    "string-for-list": "a text where a list of texts belongs",
    "not-a-list": "no list where one belongs",
    "not-a-number": "a label or score that is no number",
    "length-mismatch": "more or fewer labels or scores than documents",
    "no-docs": "no documents",
    "no-label": "neither label nor score",
    "no-query": "a conversation without a user",
    "not-one-text": "a candidate conversation with no text, or several",
    "empty-query": "a blank query",
    "lone-surrogate": "half a character, which no tokenizer reads",
    "not-finite": "a label or score that is NaN or infinite",
    "label-out-of-range": "a label outside the label scale",
}
_WRONG: Mapping[str, str] = {
    "empty-doc": "a blank document",
    "positive-in-negatives": "one text with two different labels in a row",
    "pair-in-eval": "query and document are in the evaluation data",
}
_DOUBTFUL: Mapping[str, str] = {
    "query-in-eval": "the query is in the evaluation data, with other documents",
    "duplicate-docs": "one text twice in a row",
    "duplicate-row": "query and documents of another row",
    "all-equal": "documents that are all worth the same: no signal for pairwise and listwise objectives",
    "single-doc": "one document: no signal for pairwise and listwise objectives, unless others' are negatives",
    "unlabeled": "neither labels nor scores",
    "long-query": "a query longer than the limit",
    "unread-keys": "a key that its format does not read: misspelled, or of no use here",
}

KINDS: Mapping[str, tuple[Severity, str]] = {
    **{kind: ("error", what) for kind, what in (*_UNREADABLE.items(), *_WRONG.items())},
    **{kind: ("warning", what) for kind, what in _DOUBTFUL.items()},
}
UNUSABLE = frozenset(_UNREADABLE)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, and where.

    Attributes:
        kind: one of ``KINDS``.
        line: from 1; in Parquet, the row.
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
    """What `checking.check` found.

    Attributes:
        rows: how many were checked.
        sources: rows by source, and ``formats`` by format, of those that can be read.
        counts: problems by kind, all of them; ``bad``, those of them that are errors.
        problems: the first of each kind, in the order found; as many as the options allow.
        error_rows: rows with an error, by index in the store that was checked, ascending; ``unusable_rows``, those
            among them that cannot be used whatever is decided.
        signal: what the rows that are kept say together; ``given``, the labels of all rows, as they are.
        as_errors: kinds of warnings that were taken as errors.
    """

    on_error: OnError
    rows: int
    as_errors: frozenset[str] = frozenset()
    sources: dict[str, int] = field(default_factory=dict)
    formats: dict[str, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    error_counts: dict[str, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    error_rows: array[int] = field(default_factory=lambda: array("Q"))
    unusable_rows: array[int] = field(default_factory=lambda: array("Q"))
    signal: TrainingSignal = field(default_factory=TrainingSignal)
    raw_labels: ValueRange = field(default_factory=ValueRange)

    def severity(self, kind: str) -> Severity:
        """What a kind counts as here."""
        return "error" if kind in self.as_errors or kind in self.error_counts else KINDS[kind][0]

    @property
    def errors(self) -> int:
        """How many errors there are: a row may have several."""
        return sum(self.error_counts.values())

    @property
    def warnings(self) -> int:
        """How many warnings there are."""
        return sum(self.counts.values()) - self.errors

    @property
    def left_out(self) -> array[int]:
        """Rows that training leaves out: with ``drop`` all that have an error, else those that cannot be used."""
        return self.error_rows if self.on_error == "drop" else self.unusable_rows

    def add(self, problem: Problem, limit: int | None) -> None:
        """Count a problem, and keep it if fewer than ``limit`` of its kind are kept."""
        count = self.counts.get(problem.kind, 0)
        self.counts[problem.kind] = count + 1
        if problem.severity == "error":
            self.error_counts[problem.kind] = self.error_counts.get(problem.kind, 0) + 1
        if limit is None or count < limit:
            self.problems.append(problem)

    def problems_of(self, kind: str) -> list[Problem]:
        """The problems kept of a kind."""
        return [problem for problem in self.problems if problem.kind == kind]

    def summary(self, examples: int = 3) -> str:
        """One line: how many errors, of which kinds, and the first of them."""
        counts = ", ".join(
            f"{count} {kind}" for kind, count in sorted(self.error_counts.items(), key=lambda item: -item[1])
        )
        shown = [str(problem) for problem in self.problems if problem.severity == "error"][:examples]
        return f"{len(self.error_rows)} of {self.rows} rows have errors ({counts}). First: {'; '.join(shown)}"

    def as_text(self, examples: int = 3) -> str:
        """All kinds of problems with their counts, errors first, and the first ``examples`` places of each; no line
        where there is nothing."""
        kinds = sorted(self.counts, key=lambda kind: (self.severity(kind), -self.counts[kind], kind))
        if not kinds:
            return ""
        lines = [f"{self.rows:,} rows: {self.errors:,} errors, {self.warnings:,} warnings"]
        for kind in kinds:
            lines.append(f"  {self.severity(kind)}: {self.counts[kind]:,} {kind} ({KINDS[kind][1]})")
            lines += [f"    {problem}" for problem in self.problems_of(kind)[:examples]]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
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
