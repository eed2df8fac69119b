"""`write_report`: an evaluation as one HTML file."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from rerank_core import InputError, MissingDependencyError
from rerank_eval.advice.advice import Advice
from rerank_eval.figures.evaluation import Evaluation

__all__ = ["MOST_BYTES", "write_report"]

MOST_BYTES = 6_000_000


def write_report(evaluation: Evaluation, path: str | Path, *, advice: Advice | None = None) -> None:
    """Write the report: one HTML file, at most 6 MB, that loads nothing from anywhere.

    Queries are shown with their texts, the most telling ones first, as many as fit; the report says how many.

    Args:
        advice: what the page begins with; by default `advise` makes it, without a limit of latency.

    Raises:
        InputError: even without texts it would be larger: too many sets and models for one report.
        MissingDependencyError: a library that draws the plots is not installed.
        OSError: the file cannot be written.
    """
    try:
        import altair  # noqa: F401
        import jinja2  # noqa: F401
        import vl_convert  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"the report needs {error.name}, which is not installed: pip install rerank-eval"
        ) from error
    from rerank_eval.advice.advise import advise
    from rerank_eval.report.labels import Labels
    from rerank_eval.report.page import page_of
    from rerank_eval.report.sections import MOST_QUERIES, Section

    labels = Labels(evaluation.models)
    sections = [Section(evaluation, judged, number, labels) for number, judged in enumerate(evaluation.sets, start=1)]
    advice = advise(evaluation) if advice is None else advice
    shown = MOST_QUERIES
    while True:
        page = page_of(evaluation, sections, labels, shown, advice).encode()
        if len(page) <= MOST_BYTES:
            break
        if not shown:
            raise InputError(
                f"the report of {len(sections)} sets and {len(labels.models)} models would have {len(page):,} bytes, "
                f"and {MOST_BYTES:,} are allowed; evaluate fewer sets or models at once"
            )
        shown //= 2
    _write(Path(path), page)


def _write(path: Path, page: bytes) -> None:
    """Write the whole file or nothing."""
    handle, name = tempfile.mkstemp(dir=path.absolute().parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(page)
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
