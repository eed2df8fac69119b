"""What the commands share that ask a reranker: the options of loading it, and a progress bar over rows."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, TypeVar

import typer

from rerank_core.cli.output import note
from rerank_core.reranker import Reranker
from rerank_trainers.data.row_writer import RowWriter

__all__ = [
    "Device",
    "Dtype",
    "ModelOptions",
    "TokenBudget",
    "keep_partial",
    "model_settings",
    "options_of",
    "progress_over",
]

Item = TypeVar("Item")

Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps; by default the best.")]
Dtype = Annotated[str | None, typer.Option(help="float32 (default), float16, bfloat16, or int8 (CPU).")]
TokenBudget = Annotated[int | None, typer.Option(help="Tokens computed in one forward pass.")]
ModelOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        "-o",
        metavar="KEY=VALUE",
        help="Any other option of the model, as often as needed; VALUE is JSON, or else a string. "
        "`rerank models NAME` lists them.",
    ),
]


def options_of(common: dict[str, Any], assignments: Iterable[str]) -> dict[str, Any]:
    """The options of ``load``: those of ``common`` that were given, and ``KEY=VALUE`` ones."""
    options = {name: value for name, value in common.items() if value is not None}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key:
            # The value may be a key of an endpoint, so it is not repeated.
            raise typer.BadParameter("an option is KEY=VALUE", param_hint="'--option' / '-o'")
        if key in options:
            raise typer.BadParameter(f"{key!r} is given twice", param_hint="'--option' / '-o'")
        try:
            options[key] = json.loads(text)
        except ValueError:
            options[key] = text
        except RecursionError as error:
            raise typer.BadParameter(
                f"the value of {key!r} is nested too deeply", param_hint="'--option' / '-o'"
            ) from error
    return options


def model_settings(reranker: Reranker, options: dict[str, Any]) -> dict[str, object]:
    """Which model scored, for a run that resumes; without its secrets, which change no score."""
    secret = {option.name for option in reranker.spec.options if option.secret}
    return {
        "model": reranker.spec.name,
        "checkpoint": str(reranker.spec.checkpoint),
        "model options": {name: value for name, value in options.items() if name not in secret},
    }


def progress_over(items: Iterable[Item], what: str, done: int, total: int) -> Iterator[Item]:
    """The items, with a progress bar on stderr where that is a terminal."""
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(items, what, total=total, completed=done, console=Console(stderr=True), transient=True)


@contextmanager
def keep_partial(writer: RowWriter) -> Iterator[RowWriter]:
    """The writer's block; where it is interrupted, a note says what is kept and how to go on."""
    try:
        with writer:
            if writer.done:
                note(f"{writer.done} rows were there already")
            yield writer
    except BaseException:
        if writer.written:
            note(f"{writer.written} rows are kept in {writer.partial}; the same command with --resume goes on")
        raise
