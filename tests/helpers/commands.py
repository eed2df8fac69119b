"""The command of a Typer app, built once in a test process: typer's `CliRunner` builds it again for each call."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from unittest import mock


@contextlib.contextmanager
def built_once() -> Iterator[None]:
    """Keep what `typer.main.get_command` returns for each app, as a command keeps nothing of a call.

    Building all of `rerank train` takes longer than most of its errors.
    """
    import typer.main
    import typer.testing

    built = functools.cache(typer.main.get_command)
    with (
        mock.patch.object(typer.main, "get_command", built),
        mock.patch.object(typer.testing, "_get_command", built),
    ):
        yield
