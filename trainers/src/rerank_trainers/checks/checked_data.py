"""The rows of a configuration, opened and checked: alike for training, for publishing and for `rerank train check`."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rerank_core.errors import InputError
from rerank_core.progress import Progress
from rerank_trainers.checks.check import CheckOptions, apply_on_error, check
from rerank_trainers.checks.report import Report
from rerank_trainers.config.schema import DataConfig
from rerank_trainers.data.row_store import RowStore, open_rows
from rerank_trainers.evaluation.dev_set import DevSet
from rerank_trainers.objectives.required_data import Needs

__all__ = ["CheckedData", "check_options", "open_and_check", "open_dev_rows"]


def check_options(data: DataConfig) -> CheckOptions:
    """What training counts as a problem, and what it does about errors."""
    return CheckOptions(data.label_scale(), on_error=data.on_error)


@dataclass(frozen=True, eq=False)
class CheckedData:
    """All rows of a run, and what is wrong with them.

    Attributes:
        rows, dev: as the files have them; no ``dev`` where no dev set is named.
    """

    data: DataConfig
    rows: RowStore
    report: Report
    dev: RowStore | None = None
    dev_report: Report | None = None

    def usable(self) -> tuple[RowStore, RowStore | None]:
        """The rows to train on, and to measure.

        Raises:
            InputError: errors, where ``on_error`` says stop, or no row is left.
        """
        rows = apply_on_error(self.rows, self.report)
        if self.dev is None or self.dev_report is None:
            return rows, None
        return rows, apply_on_error(self.dev, self.dev_report)

    def why_no_signal(self, needs: Needs) -> str | None:
        """Why an objective with such needs could learn nothing from rows that are each sound; None where it could."""
        return self.report.signal.why_no_signal(needs, self.data.group_size)

    def why_no_dev_signal(self) -> str | None:
        """Why nothing can be measured on the dev set; None where something can."""
        if self.dev is None or self.dev_report is None:
            return None
        try:
            DevSet(self.dev.drop(self.dev_report.left_out), (), scale=self.data.label_scale())
        except InputError as error:
            return str(error)
        return None


def open_and_check(
    data: DataConfig,
    *,
    max_query: int | None = None,
    as_errors: frozenset[str] = frozenset(),
    examples: int | None = CheckOptions.examples,
    progress: Progress | None = None,
) -> CheckedData:
    """Open and check what a configuration names; what is wrong is in the reports, and raises nothing here.

    Args:
        max_query, as_errors, examples: see `CheckOptions`; training asks for no more than their defaults.

    Raises:
        InputError: no file is named, or one that cannot be read.
    """
    if not data.train:
        raise InputError("data.train names no file; give JSON, CSV, TSV or Parquet of queries with documents")
    options = replace(check_options(data), max_query=max_query, as_errors=as_errors, examples=examples)
    dev = open_rows(data.eval, scores_are=data.scores_are, encoding=data.encoding) if data.eval else None
    rows = open_rows(data.train, scores_are=data.scores_are, encoding=data.encoding, progress=progress)
    report = check(rows, options, dev, progress=progress)
    # The dev set is measured, not trained on: what says nothing about an order is left out there and counted.
    return CheckedData(data, rows, report, dev, None if dev is None else check(dev, options))


def open_dev_rows(data: DataConfig) -> RowStore:
    """The dev set alone, as training measures it.

    Raises:
        InputError: a file that cannot be read, or errors where ``on_error`` says stop.
    """
    rows = open_rows(data.eval, scores_are=data.scores_are, encoding=data.encoding)
    return apply_on_error(rows, check(rows, check_options(data)))
