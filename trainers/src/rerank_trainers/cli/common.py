"""Helpers of `rerank train mine` and `rerank train label`: resume settings and partial output."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rerank_core.cli.shared import note
from rerank_core.reranker import Reranker
from rerank_trainers.data.row_writer import RowWriter

__all__ = ["keep_partial", "model_settings"]


def model_settings(reranker: Reranker, options: dict[str, Any]) -> dict[str, object]:
    """Which model scored, for a run that resumes; without its secrets, which change no score."""
    secret = {option.name for option in reranker.spec.options if option.secret}
    return {
        "model": reranker.spec.name,
        "checkpoint": str(reranker.spec.checkpoint),
        "model options": {name: value for name, value in options.items() if name not in secret},
    }


@contextmanager
def keep_partial(writer: RowWriter) -> Iterator[RowWriter]:
    """Run a block with the writer; after an interruption a note tells how many rows are kept and how to continue."""
    try:
        with writer:
            if writer.done:
                note(f"{writer.done} rows were there already")
            yield writer
    except BaseException:
        if writer.written:
            note(f"{writer.written} rows are kept in {writer.partial}; repeat the command with --resume to continue")
        raise
