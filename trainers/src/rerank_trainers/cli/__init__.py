"""``rerank train``: check data, mine, label, train, publish."""

from __future__ import annotations

import typer

from rerank_trainers.cli.check import check
from rerank_trainers.cli.label import label
from rerank_trainers.cli.mine import mine
from rerank_trainers.cli.publish import publish
from rerank_trainers.cli.train import colbert, embedding, llm, reranker

__all__ = ["app"]

app = typer.Typer(
    name="train",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="Fine-tune rerankers and embedding models: check data, mine negatives, label with a teacher, train, publish.",
)
for _command in (check, mine, label, reranker, llm, embedding, colbert, publish):
    app.command()(_command)
