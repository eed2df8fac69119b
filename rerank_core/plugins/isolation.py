"""Runs a plugin's code so that neither its errors nor its output disturb the rest of the program."""

from __future__ import annotations

import dis
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["PluginFault", "is_users_interrupt", "isolated", "one_line", "stdout_to_stderr"]

_RAISE = dis.opmap["RAISE_VARARGS"]
_MESSAGE_CHARACTERS = 500
"""The most characters of a foreign exception's message that our messages repeat."""


class PluginFault(Exception):  # noqa: N818 -- internal: always caught inside this package
    """An exception that a plugin's code raised, SystemExit included.

    Attributes:
        error: the plugin's exception.
    """

    def __init__(self, error: BaseException) -> None:
        super().__init__(one_line(error))
        self.error = error


@contextmanager
def isolated() -> Iterator[None]:
    """Turn any exception of the block into a `PluginFault`, and redirect its stdout to stderr.

    Only a Ctrl-C of the user passes unchanged.
    """
    with stdout_to_stderr():
        try:
            yield
        except BaseException as error:  # SystemExit and a native extension's panic are no Exception
            if is_users_interrupt(error):
                raise
            raise PluginFault(error) from error


def is_users_interrupt(error: BaseException) -> bool:
    """Whether this KeyboardInterrupt comes from Ctrl-C, and not from a ``raise`` statement.

    A signal's exception arises between two instructions; the other one at a ``raise`` instruction.
    """
    if not isinstance(error, KeyboardInterrupt):
        return False
    trace = error.__traceback__
    if trace is None:
        return True
    while trace.tb_next is not None:
        trace = trace.tb_next
    return trace.tb_frame.f_code.co_code[trace.tb_lasti] != _RAISE


def one_line(error: BaseException) -> str:
    """An exception as one line of limited length, even if its ``__str__`` raises.

    >>> one_line(KeyError("size"))
    "KeyError: 'size'"
    """
    import traceback  # imports two modules more, and is needed only after an error

    lines = "".join(traceback.format_exception_only(error)).strip().splitlines()
    # The message is the last line of a SyntaxError and the first line of any other exception.
    line = " ".join((lines[-1] if isinstance(error, SyntaxError) else lines[0]).split()) if lines else ""
    return line if len(line) <= _MESSAGE_CHARACTERS else f"{line[:_MESSAGE_CHARACTERS]} …"


class _Redirection:
    """The number of active blocks in all threads, and stdout as it was before the first of them."""

    lock = threading.Lock()
    active = 0
    stdout: Any = None


@contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Redirect the block's stdout to stderr, because programs read results from stdout.

    With contextlib.redirect_stdout stdout would stay redirected when two threads leave in the order in which they
    entered.
    """
    with _Redirection.lock:
        if not _Redirection.active:
            _Redirection.stdout = sys.stdout
            sys.stdout = sys.stderr
        _Redirection.active += 1
    try:
        yield
    finally:
        with _Redirection.lock:
            _Redirection.active -= 1
            if not _Redirection.active:
                sys.stdout, _Redirection.stdout = _Redirection.stdout, None
