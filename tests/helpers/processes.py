"""Processes that start with torch already imported: importing it takes seconds, and forking takes none."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from subprocess import CompletedProcess

# Started at the first use, once for each process of pytest. It imports the backend, runs nothing, and forks a child
# for each command.
_SERVER = multiprocessing.get_context("forkserver" if hasattr(os, "fork") else "spawn")
_SERVER.set_forkserver_preload(["rerank_core.backends.torch"])


def run_python(
    target: str | Path,
    *arguments: str,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 300,
) -> CompletedProcess[str]:
    """Run a module (``python -m target arguments``) or a script in a process of its own that has torch imported and
    nothing else done.

    Arguments, folder, environment, output and exit code are those of the command. What a process reads while it
    imports the backend, such as the place of the hub's cache, is not taken from ``env``.

    Args:
        env: variables beside those of this process.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ("stdout", "stderr")]
        place = (str(cwd or Path.cwd()), {**os.environ, **(env or {})}, [str(file) for file in files])
        process = _SERVER.Process(target=_run, args=(target, arguments, *place))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
        out, err = (file.read_text("utf-8") if file.exists() else "" for file in files)
    assert process.exitcode is not None
    return CompletedProcess([str(target), *arguments], process.exitcode, out, err)


def _run(target: str | Path, arguments: tuple[str, ...], cwd: str, env: dict[str, str], files: list[str]) -> None:
    """The child: it becomes the command."""
    for number, file in enumerate(files, 1):
        output = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(output, number)
        os.close(output)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(number, mode) for number, mode in enumerate(("r", "w", "w")))
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr
    os.environ.update(env)
    os.chdir(cwd)
    sys.argv = [str(target), *arguments]
    if isinstance(target, Path):
        sys.path.insert(0, str(target.parent))
        runpy.run_path(str(target), run_name="__main__")
    else:
        runpy.run_module(target, run_name="__main__", alter_sys=True)
