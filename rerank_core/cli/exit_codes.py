"""Ends a command: turns errors into one line on stderr and an exit code, and flushes the output."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable, Iterator
from typing import NoReturn, TextIO

import typer

from rerank_core.cli.output import printable, suppress_write_errors
from rerank_core.errors import PluginError, RerankError, short
from rerank_core.plugins.isolation import is_users_interrupt, one_line

__all__ = ["TRACEBACK", "exit_with_message", "flush_output", "prepare_streams", "refuse_process_exit"]

TRACEBACK = "RERANK_TRACEBACK"
"""Environment variable that shows the traceback of an unexpected error."""

_INTERRUPTED = 130
# Exceptions that typer handles, such as usage errors. Taken from the MRO because typer moves their base class.
_SHOWN_BY_TYPER: tuple[type[BaseException], ...] = (typer.BadParameter.__mro__[2], typer.Exit, typer.Abort, SystemExit)


@contextlib.contextmanager
def exit_with_message(command: Callable[[], str] = lambda: "`rerank`") -> Iterator[None]:
    """Turn an exception of the block into one line on stderr and an exit code.

    Args:
        command: returns the name of the command for the message of an unexpected error.
    """
    try:
        yield
    except _SHOWN_BY_TYPER:
        raise
    except RerankError as error:
        _fail(str(error), error)
    except KeyboardInterrupt as error:
        _print_error("interrupted")
        raise typer.Exit(_INTERRUPTED) from error
    except BaseException as error:
        if isinstance(error, OSError) and error.errno == errno.EPIPE:
            raise  # the reader closed the pipe: end without a message
        if os.environ.get(TRACEBACK):
            raise
        if isinstance(error, OSError):
            _fail(f"{command()}: {one_line(error)}", error)
        _fail(
            f"{command()} failed: {one_line(error)}. {TRACEBACK}=1 shows the traceback; report it to its authors", error
        )


@contextlib.contextmanager
def refuse_process_exit(model: str) -> Iterator[None]:
    """Raise `PluginError` where a model's code tries to end the process; the user's own Ctrl-C still ends it."""
    try:
        yield
    except (SystemExit, KeyboardInterrupt, GeneratorExit) as error:
        if is_users_interrupt(error):
            raise
        raise PluginError(
            f"the code of {short(model)} tried to end the process ({one_line(error)}); report it to its authors"
        ) from error


def _fail(message: str, error: BaseException) -> NoReturn:
    _print_error(f"error: {message}")
    raise typer.Exit(1) from error


def _print_error(message: str) -> None:
    # A message that cannot be written is dropped; the exit code reports the failure as well.
    with suppress_write_errors():
        typer.echo(printable(message), err=True)


def prepare_streams() -> None:
    """Make sure that the standard streams are open and can print any text.

    Closed streams are opened on the null device, so that no other file gets a descriptor that is printed to.
    """
    for number, stream in enumerate((sys.stdin, sys.stdout, sys.stderr)):
        if stream is None:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 -- to the end of the process
    if sys.stdout is None:
        _print_error("error: stdout is closed, so no result can be shown; use >/dev/null to discard it")
        sys.exit(1)
    for output in (sys.stdout, sys.stderr):
        reconfigure = getattr(output, "reconfigure", None)
        if reconfigure is not None:
            # Print "?" for characters that the terminal's encoding lacks, instead of failing.
            reconfigure(errors="replace")


def flush_output(*, failed: bool) -> int:
    """Flush stdout and stderr, so that the interpreter prints no error about them at exit.

    Args:
        failed: the command has already reported an error.

    Returns:
        the exit code of a command without other errors: 0 if its result was written, 1 if not. A failure to write to
        stderr does not count.
    """
    error = _flush(sys.stdout)
    if error is not None and not failed and getattr(error, "errno", None) != errno.EPIPE:
        _print_error(f"error: the result could not be written: {one_line(error)}")
    _flush(sys.stderr)
    return 0 if error is None else 1


def _flush(stream: TextIO) -> Exception | None:
    """Flush a stream; if that fails, discard the unwritten rest and return the error."""
    try:
        stream.flush()
    except (OSError, ValueError) as error:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return error
    return None
