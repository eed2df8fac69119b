"""Running a plugin's code so that it stops nothing but itself, whatever it raises or prints."""

from __future__ import annotations

import dis
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["PluginFault", "is_users_interrupt", "isolated", "one_line", "stdout_to_stderr"]

_RAISE = dis.opmap["RAISE_VARARGS"]
_LONGEST = 500
"""Characters of what a stranger's exception says that a message repeats."""


class PluginFault(Exception):  # noqa: N818 -- caught where it is raised, and never shown to a caller
    """What a plugin's code raised, an exit included.

    Attributes:
        error: the exception itself.
    """

    def __init__(self, error: BaseException) -> None:
        super().__init__(one_line(error))
        self.error = error


@contextmanager
def isolated() -> Iterator[None]:
    """Raise what the block raises as `PluginFault`, and let what it prints go to stderr.

    Only the user's own Ctrl-C passes.
    """
    with stdout_to_stderr():
        try:
            yield
        except BaseException as error:  # SystemExit and a native extension's panic are no Exception
            if is_users_interrupt(error):
                raise
            raise PluginFault(error) from error


def is_users_interrupt(error: BaseException) -> bool:
    """Whether this is Ctrl-C, and not a KeyboardInterrupt that code raised by itself.

    The one of a signal arrives between two instructions; the other one is made by a ``raise``.
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
    """An exception on one line, of a length for a message; also one whose own ``__str__`` raises.

    >>> one_line(KeyError("size"))
    "KeyError: 'size'"
    """
    lines = "".join(traceback.format_exception_only(error)).strip().splitlines()
    # The last line of a SyntaxError, the first of any other: what follows are details.
    line = " ".join((lines[-1] if isinstance(error, SyntaxError) else lines[0]).split()) if lines else ""
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]} …"


class _Aside:
    """stdout as it was before the first of the blocks that are inside, from whatever thread."""

    lock = threading.Lock()
    inside = 0
    stdout: Any = None


@contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Send what the block prints to stderr: stdout is for results, which programs read.

    contextlib.redirect_stdout would leave stdout redirected where two threads leave in the order they came.
    """
    with _Aside.lock:
        if not _Aside.inside:
            _Aside.stdout = sys.stdout
            sys.stdout = sys.stderr
        _Aside.inside += 1
    try:
        yield
    finally:
        with _Aside.lock:
            _Aside.inside -= 1
            if not _Aside.inside:
                sys.stdout, _Aside.stdout = _Aside.stdout, None
