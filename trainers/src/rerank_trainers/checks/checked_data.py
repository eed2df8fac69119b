"""Opens and checks the data of a configuration, in the same way for training, publishing and `rerank train check`."""

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
    """The options with which training checks its data."""
    return CheckOptions(data.label_scale(), on_error=data.on_error)


@dataclass(frozen=True, eq=False)
class CheckedData:
    """The training and dev rows of a run with the reports of their problems.

    Attributes:
        data: the settings that name the files.
        rows, dev: all rows of the files; ``dev`` is None without a dev set.
        report, dev_report: the problems of these rows.
    """

    data: DataConfig
    rows: RowStore
    report: Report
    dev: RowStore | None = None
    dev_report: Report | None = None

    def usable(self) -> tuple[RowStore, RowStore | None]:
        """The training rows and the dev rows, without the rows that ``on_error`` leaves out.

        Raises:
            InputError: there are errors and ``on_error`` is ``error``, or no row is left.
        """
        rows = apply_on_error(self.rows, self.report)
        if self.dev is None or self.dev_report is None:
            return rows, None
        return rows, apply_on_error(self.dev, self.dev_report)

    def why_no_signal(self, needs: Needs) -> str | None:
        """Why an objective with these needs cannot learn from the rows, even if each is valid; None if it can."""
        return self.report.signal.why_no_signal(needs, self.data.group_size)

    def why_no_dev_signal(self) -> str | None:
        """Why no metric can be computed on the dev set; None if one can, or without a dev set."""
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
    """Open and check the files of a configuration. Bad rows are in the reports; they raise nothing here.

    Args:
        max_query, as_errors, examples: see `CheckOptions`; training uses their defaults.
        progress: called with the work done and the total, in bytes while files are opened, then in rows.

    Raises:
        InputError: ``data.train`` is empty, or a file cannot be read.
    """
    if not data.train:
        raise InputError("data.train names no file; give files (JSON, CSV, TSV or Parquet) of queries with documents")
    options = replace(check_options(data), max_query=max_query, as_errors=as_errors, examples=examples)
    dev = open_rows(data.eval, scores_are=data.scores_are, encoding=data.encoding) if data.eval else None
    files = data.train_files()
    rows = open_rows(
        [file.path for file in files],
        weights=[file.weight for file in files],
        scores_are=data.scores_are,
        encoding=data.encoding,
        progress=progress,
    )
    report = check(rows, options, dev, progress=progress)
    # `DevSet` leaves out dev rows that a ranking metric cannot use, and counts them.
    return CheckedData(data, rows, report, dev, None if dev is None else check(dev, options))


def open_dev_rows(data: DataConfig) -> RowStore:
    """Open only the dev set, with the rows that training evaluates on.

    Raises:
        InputError: a file cannot be read, or there are errors and ``on_error`` is ``error``.
    """
    rows = open_rows(data.eval, scores_are=data.scores_are, encoding=data.encoding)
    return apply_on_error(rows, check(rows, check_options(data)))
