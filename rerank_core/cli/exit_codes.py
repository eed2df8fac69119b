"""How a command ends: with its result, or with one line on stderr and an exit code; never with a traceback."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable, Iterator
from typing import NoReturn, TextIO

import typer

from rerank_core.cli.output import plain, unheard
from rerank_core.errors import PluginError, RerankError, short
from rerank_core.plugins.isolation import is_users_interrupt, one_line

__all__ = ["TRACEBACK", "explained", "finish", "prepare", "staying"]

TRACEBACK = "RERANK_TRACEBACK"
"""The environment variable that shows where an unexpected error came from."""

_INTERRUPTED = 130
# Usage errors and the like, which typer shows by itself. Their base class has another home in each version of typer.
_SHOWN_BY_TYPER: tuple[type[BaseException], ...] = (typer.BadParameter.__mro__[2], typer.Exit, typer.Abort, SystemExit)


@contextlib.contextmanager
def explained(command: Callable[[], str] = lambda: "`rerank`") -> Iterator[None]:
    """Turn what the block raises into one line and an exit code.

    Args:
        command: says what failed, for errors that nobody expected.
    """
    try:
        yield
    except _SHOWN_BY_TYPER:
        raise
    except RerankError as error:
        _fail(str(error), error)
    except KeyboardInterrupt as error:
        _say("interrupted")
        raise typer.Exit(_INTERRUPTED) from error
    except BaseException as error:
        if isinstance(error, OSError) and error.errno == errno.EPIPE:
            raise  # the reader of a pipe has gone, which ends the command quietly
        if os.environ.get(TRACEBACK):
            raise
        if isinstance(error, OSError):
            _fail(f"{command()}: {one_line(error)}", error)
        _fail(f"{command()} failed: {one_line(error)}. {TRACEBACK}=1 shows where; report it to its authors", error)


@contextlib.contextmanager
def staying(model: str) -> Iterator[None]:
    """Raise as `PluginError` what the code of a model would end the process by; only the user's own Ctrl-C passes."""
    try:
        yield
    except (SystemExit, KeyboardInterrupt, GeneratorExit) as error:
        if is_users_interrupt(error):
            raise
        raise PluginError(
            f"the code of {short(model)} asked the process to end ({one_line(error)}); report it to its authors"
        ) from error


def _fail(message: str, error: BaseException) -> NoReturn:
    _say(f"error: {message}")
    raise typer.Exit(1) from error


def _say(message: str) -> None:
    # A failure is told by the exit code, too.
    with unheard():
        typer.echo(plain(message), err=True)


def prepare() -> None:
    """Make the standard streams fit to be written to.

    What is closed is opened on nothing, so that no file of a model gets the descriptor that others print to.
    """
    for number, stream in enumerate((sys.stdin, sys.stdout, sys.stderr)):
        if stream is None:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 -- to the end of the process
    if sys.stdout is None:
        _say("error: stdout is closed, so no result can be shown; >/dev/null throws it away")
        sys.exit(1)
    for output in (sys.stdout, sys.stderr):
        reconfigure = getattr(output, "reconfigure", None)
        if reconfigure is not None:
            # A terminal that cannot show a character shows "?" rather than ending the command.
            reconfigure(errors="replace")


def finish(*, failed: bool) -> int:
    """Write what is still unwritten, so that the interpreter has nothing to say about it when it ends.

    Args:
        failed: the command has said what failed.

    Returns:
        the exit code of a command that came so far: whether its result was written. A message that nobody can read
        changes nothing.
    """
    error = _unwritten(sys.stdout)
    if error is not None and not failed and getattr(error, "errno", None) != errno.EPIPE:
        _say(f"error: the result could not be written: {one_line(error)}")
    _unwritten(sys.stderr)
    return 0 if error is None else 1


def _unwritten(stream: TextIO) -> Exception | None:
    """Why the rest of a stream cannot be written, which is thrown away then."""
    try:
        stream.flush()
    except (OSError, ValueError) as error:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return error
    return None
