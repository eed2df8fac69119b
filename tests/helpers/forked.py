"""Fresh processes that need not import torch and transformers again.

The imports take a new interpreter five seconds. The fork server of `multiprocessing` imports the libraries once and
does nothing else. Each process forked from it has loaded no model, has its own memory, working directory, environment,
signals and exit code, and shares nothing with the process of the tests. Where forking is unsafe (not on Linux), and
where ``RERANK_FRESH`` is set, as in CI for the longest of these tests, a new interpreter is started.
"""

from __future__ import annotations

import contextlib
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing import forkserver, get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

LIBRARIES = [
    "rerank_core.backends.torch", "rerank_trainers.train", "rerank_trainers.publish.other_libraries",
    "transformers.models.auto.modeling_auto", "transformers.models.auto.tokenization_auto", "sentence_transformers",
]  # fmt: skip
FORKS = sys.platform == "linux" and "RERANK_FRESH" not in os.environ
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


def context() -> Any:
    """The context of `multiprocessing` whose processes have imported the libraries and loaded no model."""
    found: Any = get_context("forkserver" if FORKS else "spawn")
    if FORKS:
        found.set_forkserver_preload(LIBRARIES)
        with mock.patch.dict(os.environ, OFFLINE):
            forkserver.ensure_running()
    return found


def start(command: Sequence[str], *, cwd: Path | str, env: Mapping[str, str], stdout: Path, stderr: Path) -> Any:
    """Start ``[sys.executable, "-m", MODULE, ...]`` or ``[sys.executable, SCRIPT, ...]`` in a forked process.

    Returns:
        a `multiprocessing.Process`: its ``pid``, ``join`` and ``exitcode``.
    """
    assert command[0] == sys.executable
    process = context().Process(target=_main, args=(list(command[1:]), str(cwd), dict(env), str(stdout), str(stderr)))
    process.start()
    return process


def run(
    command: Sequence[str],
    *,
    cwd: Path | str = ".",
    env: Mapping[str, str] | None = None,
    capture_output: bool = True,
    encoding: str = "utf-8",
    check: bool = False,
) -> subprocess.CompletedProcess[str]:
    """`subprocess.run` of such a command, in a forked process; what it writes is captured."""
    assert capture_output
    with tempfile.TemporaryDirectory() as place:
        out, err = Path(place) / "out", Path(place) / "err"
        process = start(command, cwd=cwd, env=os.environ if env is None else env, stdout=out, stderr=err)
        process.join()
        code = process.exitcode
        process.close()
        done = subprocess.CompletedProcess(list(command), code, out.read_text(encoding), err.read_text(encoding))
    if check:
        done.check_returncode()
    return done


def run_python(
    *arguments: str, cwd: Path | str = ".", env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """``python ARGUMENTS``, a script or a module after ``-m``, with ``env`` beside the environment of this process.

    The process in which `rerank train` proves a published folder is forked too, before its parent has loaded a model.
    """
    command = [sys.executable, *arguments]
    forking = run if FORKS else subprocess.run
    return forking(
        command, cwd=cwd, env={**os.environ, **(env or {})}, capture_output=True, encoding="utf-8", check=False
    )


class OnTerminal:
    """`subprocess.Popen` of such a command whose stdout and stderr are a terminal, in a forked process."""

    def __init__(
        self, command: Sequence[str], *, cwd: Path | str, env: Mapping[str, str], stdin: int, stdout: int, stderr: int
    ) -> None:
        assert (stdin, stderr) == (subprocess.DEVNULL, stdout)
        self.returncode: int | None = None
        terminal = Path(os.ttyname(stdout))
        self._held = os.dup(stdout)  # a terminal that no process has open yet would end the reader
        self._process = start(command, cwd=cwd, env=env, stdout=terminal, stderr=terminal)
        self._waiter = threading.Thread(target=self._wait)
        self._waiter.start()

    def _wait(self) -> None:
        self._process.join()
        self.returncode = self._process.exitcode
        os.close(self._held)

    def __enter__(self) -> OnTerminal:
        return self

    def __exit__(self, *error: object) -> None:
        self._waiter.join()
        self._process.close()


def _main(arguments: list[str], cwd: str, env: dict[str, str], stdout: str, stderr: str) -> None:
    """What a new interpreter does with its command line."""
    for path, number in ((stdout, 1), (stderr, 2)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
        os.close(file)
    sys.stdout, sys.stderr = (open(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))  # noqa: SIM115
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(env)
    if sys.modules.get("rerank_core.backends.torch"):  # which said so when it was imported, to another environment
        from rerank_core.backends.torch import process_memory

        process_memory.limit_kernel_caches()
    os.chdir(cwd)
    if "OMP_NUM_THREADS" in env:  # was read when torch was imported
        import torch

        torch.set_num_threads(int(env["OMP_NUM_THREADS"]))
    if FORKS and arguments[:3] == ["-m", "rerank_core", "train"]:
        from rerank_trainers.publish import publish

        place = tempfile.TemporaryDirectory()
        publish.subprocess = SimpleNamespace(run=_Spare(Path(place.name)).run)
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        sys.path.insert(0, str(Path(arguments[0]).parent))
        runpy.run_path(arguments[0], run_name="__main__")


class _Spare:
    """A process forked now, which runs one command later, with what this process has imported until now."""

    def __init__(self, place: Path) -> None:
        self._used = False
        self._files = [str(place / name) for name in ("out", "err")]
        context = get_context("fork")
        reader, self._writer = context.Pipe(duplex=False)
        self._process = context.Process(target=_run_later, args=(reader, *self._files), daemon=True)
        self._process.start()

    def run(self, command: Sequence[str], *, cwd: str, env: Mapping[str, str], **more: Any) -> Any:
        """`subprocess.run` of a command of the interpreter, with captured output; its second call starts a new one."""
        if self._used:
            return subprocess.run(command, cwd=cwd, env=env, **more)
        self._used = True
        self._writer.send((list(command[1:]), cwd, dict(env)))
        self._process.join()
        out, err = (Path(file).read_text("utf-8") for file in self._files)
        return subprocess.CompletedProcess(list(command), self._process.exitcode, out, err)


def _run_later(commands: Any, stdout: str, stderr: str) -> None:
    """Wait for a command, and run it."""
    _main(*commands.recv(), stdout, stderr)


@contextlib.contextmanager
def forked(module: Any) -> Iterator[None]:
    """Fork what a module of ours starts with `subprocess.run`."""
    with mock.patch.object(module, "subprocess", SimpleNamespace(run=run)):
        yield


@contextlib.contextmanager
def interpreted(module: Any) -> Iterator[None]:
    """Within `forked`, start new interpreters nevertheless."""
    with mock.patch.object(module, "subprocess", subprocess):
        yield
