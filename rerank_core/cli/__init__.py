"""The ``rerank`` command. Results go to stdout, everything else to stderr.

Exit codes: 0 success, 1 an error that the message explains (or a failed check of ``rerank doctor``), 2 wrong usage,
130 interrupted.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from rerank_core import __version__
from rerank_core.cli import doctor, models, plugin_commands, rank
from rerank_core.cli.exit_codes import exit_with_message, flush_output, prepare_streams

__all__ = ["app", "main"]


class _Commands(TyperGroup):
    """Built-in commands and those of plugins; errors end in one line and an exit code instead of a traceback."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        with exit_with_message():
            return super().make_context(info_name, args, parent=parent, **extra)

    def list_commands(self, ctx: Any) -> list[str]:
        return [*self.commands, *(name for name in plugin_commands.plugin_command_names() if name not in self.commands)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        # Built-in commands first, because they do not need the plugins to be discovered.
        return self.commands.get(cmd_name) or plugin_commands.lazy_command(cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            ctx.fail(plugin_commands.unknown_command_message(args[0], self.list_commands(ctx)))
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        with exit_with_message(lambda: plugin_commands.command_with_owner(ctx.invoked_subcommand)):
            return super().invoke(ctx)


app = typer.Typer(
    name="rerank",
    cls=_Commands,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
for _command in (rank.rank, models.models, models.plugins, doctor.doctor):
    app.command()(_command)


def _version(requested: bool) -> None:
    if requested:
        typer.echo(f"rerank-core {__version__}")
        raise typer.Exit


@app.callback()
def _rerank(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """One command for every open reranker.

    \b
    Examples:
      rerank rank "what is a panda?" notes/*.txt
      rerank models
      rerank doctor mini
    """


def main() -> None:
    """Entry point of the ``rerank`` command."""
    prepare_streams()
    try:
        app(prog_name="rerank")
    except SystemExit as end:
        sys.exit(end.code or flush_output(failed=False))
    except OSError as error:
        # typer failed to print a usage error; keep the exit code of that error.
        sys.exit(getattr(error.__context__, "exit_code", 1))
    finally:
        flush_output(failed=True)
