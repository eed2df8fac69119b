"""Opens and checks the data of a configuration, in the same way for training, publishing and `rerank train check`."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rerank_core.errors import InputError
from rerank_core.progress import Progress
from rerank_core.records.paths import expand_paths
from rerank_trainers.checks.check import CheckOptions, apply_on_error, check
from rerank_trainers.checks.report import Report
from rerank_trainers.config.schema import DataConfig
from rerank_trainers.data.row_store import RowStore, open_rows
from rerank_trainers.evaluation.dev_data import DevData, DevKind, DevPart
from rerank_trainers.evaluation.dev_sets import open_set
from rerank_trainers.objectives.required_data import Needs
from rerank_trainers.retrieval.corpus import Corpus
from rerank_trainers.retrieval.corpus_files import corpus_texts

__all__ = ["CheckedData", "CheckedDev", "check_options", "open_and_check", "open_dev", "open_dev_rows"]


def check_options(data: DataConfig) -> CheckOptions:
    """The options with which training checks its data."""
    return CheckOptions(data.label_scale(), on_error=data.on_error)


@dataclass(frozen=True, eq=False)
class CheckedDev:
    """The rows of a dev set with the report of their problems; see `DevPart`."""

    name: str
    kind: DevKind
    rows: RowStore
    report: Report
    corpus: Corpus | None = None

    def part(self, rows: RowStore) -> DevPart:
        """The dev set with these rows."""
        return DevPart(self.name, self.kind, rows, self.corpus)


@dataclass(frozen=True, eq=False)
class CheckedData:
    """The training and dev rows of a run with the reports of their problems.

    Attributes:
        data: the settings that name the files.
        rows: all training rows of the files.
        report: the problems of these rows.
        dev: the dev sets, each with its own.
    """

    data: DataConfig
    rows: RowStore
    report: Report
    dev: tuple[CheckedDev, ...] = ()

    def usable(self) -> tuple[RowStore, DevData | None]:
        """The training rows and the dev rows, without the rows that ``on_error`` leaves out.

        Raises:
            InputError: there are errors and ``on_error`` is ``error``, or no row is left.
        """
        rows = apply_on_error(self.rows, self.report)
        dev = DevData([one.part(apply_on_error(one.rows, one.report)) for one in self.dev])
        return rows, dev if self.dev else None

    def reports(self) -> list[tuple[str, Report]]:
        """The report of each set of files, by the setting that names them."""
        named = [(f"data.eval.{one.name}" if one.name else "data.eval", one.report) for one in self.dev]
        return [("data.train", self.report), *named]

    @property
    def dev_errors(self) -> int:
        """Number of errors in the dev sets."""
        return sum(one.report.errors for one in self.dev)

    def why_no_signal(self, needs: Needs, batch_size: int) -> str | None:
        """Why an objective with these needs cannot learn from the rows, even if each is valid; None if it can.

        Args:
            batch_size: queries of a step.
        """
        rows = max(self.report.sources.values(), default=0) if self.data.same_source else len(self.rows)
        return self.report.signal.why_no_signal(needs, self.data.group_size, min(batch_size, max(1, rows)))

    def why_no_dev_signal(self) -> str | None:
        """Why no metric can be computed on a dev set; None if one can on each, or without a dev set."""
        try:
            for one in self.dev:
                open_set(one.part(one.rows.drop(one.report.left_out)), (), scale=self.data.label_scale())
        except InputError as error:
            return str(error)
        return None


# A text pair or a query with its only relevant document is whole, and pairs have labels of any range.
_SEARCHED = frozenset({"single-doc", "all-equal"})


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
    files = data.train_files()
    rows = open_rows(
        [file.path for file in files],
        weights=[file.weight for file in files],
        scores_are=data.scores_are,
        encoding=data.encoding,
        progress=progress,
    )
    dev = open_dev(data, options)
    report = check(rows, options, [one.rows for one in dev], progress=progress)
    return CheckedData(data, rows, report, dev)


def open_dev(data: DataConfig, options: CheckOptions) -> tuple[CheckedDev, ...]:
    """Open and check the dev sets. The sets leave out rows that their metrics cannot use, and count them."""
    found = []
    for name, one in data.eval_sets().items():
        kind: DevKind = "files" if one.files else "pairs" if one.pairs else "corpus"
        own = options
        if kind != "files":
            scale = None if kind == "pairs" else options.label_scale
            own = replace(options, label_scale=scale, ignored=_SEARCHED, as_errors=options.as_errors - _SEARCHED)
        rows = open_rows(
            one.files or one.pairs or one.queries,
            scores_are=data.scores_are,
            group=kind != "pairs",
            encoding=data.encoding,
        )
        corpus = None
        if kind == "corpus":
            paths = [str(path) for path in expand_paths(one.corpus)]
            try:
                corpus = Corpus.of(corpus_texts(paths, encoding=data.encoding))
            except InputError as error:
                raise InputError(f"data.eval.{name}.corpus: {error}") from error
        found.append(CheckedDev(name, kind, rows, check(rows, own), corpus))
    return tuple(found)


def open_dev_rows(data: DataConfig) -> DevData:
    """Open only the dev sets, with the rows that training evaluates on.

    Raises:
        InputError: a file cannot be read, or there are errors and ``on_error`` is ``error``.
    """
    dev = open_dev(data, check_options(data))
    return DevData([one.part(apply_on_error(one.rows, one.report)) for one in dev])
