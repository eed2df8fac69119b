"""The command `rerank eval`."""

from __future__ import annotations

import typer

from rerank_eval.cli.command import evaluate_models

__all__ = ["app"]

app = typer.Typer(
    name="eval",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
app.command(name="eval", no_args_is_help=True)(evaluate_models)
