"""The rows of a configuration, opened and checked: alike for training, for publishing and for `rerank train check`."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rerank_core.errors import InputError
from rerank_core.progress import Progress
from rerank_core.records.label_scale import LabelScale
from rerank_trainers.checks.check import CheckOptions, check, usable_rows
from rerank_trainers.checks.report import Report
from rerank_trainers.config.schema import DataConfig
from rerank_trainers.data.row_store import RowStore, open_rows
from rerank_trainers.evaluation.dev_set import DevSet
from rerank_trainers.objectives.required_data import Needs

__all__ = ["Checked", "checked", "checks_of", "dev_rows", "scale_of"]


def scale_of(data: DataConfig) -> LabelScale:
    """What a label becomes."""
    if data.label_map is not None:
        return LabelScale.of(data.label_map)
    return LabelScale.of(data.label_range)


def checks_of(data: DataConfig) -> CheckOptions:
    """What training counts as a problem, and what it does about errors."""
    return CheckOptions(scale_of(data), on_error=data.on_error)


@dataclass(frozen=True, eq=False)
class Checked:
    """All rows of a run, and what is wrong with them.

    Attributes:
        rows, dev: as the files have them; no ``dev`` where no dev set is named.
    """

    data: DataConfig
    rows: RowStore
    report: Report
    dev: RowStore | None = None
    dev_report: Report | None = None

    def kept(self) -> tuple[RowStore, RowStore | None]:
        """The rows to train on, and to measure.

        Raises:
            InputError: errors, where ``on_error`` says stop, or no row is left.
        """
        rows = usable_rows(self.rows, self.report)
        if self.dev is None or self.dev_report is None:
            return rows, None
        return rows, usable_rows(self.dev, self.dev_report)

    def lack(self, needs: Needs) -> str | None:
        """Why an objective with such needs could learn nothing from rows that are each sound; None where it could."""
        return self.report.signal.lack(needs, self.data.group_size)

    def dev_lack(self) -> str | None:
        """Why nothing can be measured on the dev set; None where something can."""
        if self.dev is None or self.dev_report is None:
            return None
        try:
            DevSet(self.dev.without(self.dev_report.left_out), (), scale=scale_of(self.data))
        except InputError as error:
            return str(error)
        return None


def checked(
    data: DataConfig,
    *,
    max_query: int | None = None,
    as_errors: frozenset[str] = frozenset(),
    examples: int | None = CheckOptions.examples,
    progress: Progress | None = None,
) -> Checked:
    """Open and check what a configuration names; what is wrong is in the reports, and raises nothing here.

    Args:
        max_query, as_errors, examples: see `CheckOptions`; training asks for no more than their defaults.

    Raises:
        InputError: no file is named, or one that cannot be read.
    """
    if not data.train:
        raise InputError("data.train names no file; give JSON, CSV, TSV or Parquet of queries with documents")
    options = replace(checks_of(data), max_query=max_query, as_errors=as_errors, examples=examples)
    dev = open_rows(data.eval, scores_are=data.scores_are, encoding=data.encoding) if data.eval else None
    rows = open_rows(data.train, scores_are=data.scores_are, encoding=data.encoding, progress=progress)
    report = check(rows, options, dev, progress=progress)
    # The dev set is measured, not trained on: what says nothing about an order is left out there and counted.
    return Checked(data, rows, report, dev, None if dev is None else check(dev, options))


def dev_rows(data: DataConfig) -> RowStore:
    """The dev set alone, as training measures it.

    Raises:
        InputError: a file that cannot be read, or errors where ``on_error`` says stop.
    """
    rows = open_rows(data.eval, scores_are=data.scores_are, encoding=data.encoding)
    return usable_rows(rows, check(rows, checks_of(data)))
