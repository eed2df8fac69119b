"""`ModelProcess`: a model in a process of its own, so that its memory is its own and a crash ends nothing else."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rerank_core import RerankError
from rerank_eval.runs.model_choice import ModelChoice
from rerank_eval.runs.model_run import QueryRun, RunFacts
from rerank_eval.sets.judged_set import JudgedQuery

__all__ = ["CrashError", "LoadError", "Loaded", "ModelProcess"]

# The child imports what this process imports: `python -m` would put the working directory first.
_START = "import sys; sys.path[:] = {path!r}; from rerank_eval.runs.worker import main; main()"

_SECONDS_TO_CLOSE = 10


class LoadError(RerankError):
    """The model could not be loaded; the message is that of `load`."""


class CrashError(RerankError):
    """The model's process ended by itself."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a process reports of its model: the fingerprint, the options without secrets, the facts."""

    fingerprint: str
    options: Mapping[str, Any]
    facts: RunFacts


class ModelProcess:
    """Starts the process and loads the model.

    Attributes:
        loaded: the facts of the loaded model.
        peak_bytes: largest memory so far.

    Args:
        warn: is called with each warning that the model's code logs.

    Raises:
        LoadError: the model cannot be loaded.
        CrashError: the process ended while it loaded the model.
    """

    def __init__(self, choice: ModelChoice, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 -- closed by `close`
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START.format(path=sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            # Without the terminal's Ctrl-C, which is for the parent.
            start_new_session=True,
        )
        try:
            reply = self._ask({"source": choice.source, "options": dict(choice.options)})
            if reply["event"] == "failed":
                raise LoadError(reply["message"])
        except BaseException:
            self.kill()
            raise
        self.loaded = Loaded(reply["fingerprint"], reply["options"], RunFacts.from_json(reply["facts"]))
        self.peak_bytes = self.loaded.facts.peak_bytes

    def rank(self, query: JudgedQuery) -> QueryRun:
        """The model's ranking of a query; an error of the call is in the result.

        Raises:
            CrashError: the process ended.
        """
        request = {"id": query.id, "query": query.text, "documents": [one.text for one in query.candidates]}
        reply = self._ask({**request, "instruction": query.instruction})
        self.peak_bytes = max(filter(None, (self.peak_bytes, reply["peak_bytes"])), default=None)
        return QueryRun.from_json(reply["run"])

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Send a request and read the reply; warnings before it are passed on."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # reading tells why
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        for line in self._process.stdout:
            try:
                message: dict[str, Any] = json.loads(line)
            except ValueError:  # the process ended within a line
                break
            if message["event"] != "warning":
                return message
            self._warn(message["message"])
        raise CrashError(self._why_it_ended())

    def _why_it_ended(self) -> str:
        code = self._process.wait()
        if code < 0:
            with contextlib.suppress(ValueError):
                name = signal.Signals(-code).name
                memory = ", which is how a system ends a process when memory runs out" if name == "SIGKILL" else ""
                return f"the model's process was ended by {name}{memory}{self._last_words()}"
        return f"the model's process ended with exit code {code}{self._last_words()}"

    def _last_words(self) -> str:
        """The last line that the process printed on stderr."""
        size = self._errors.seek(0, 2)
        self._errors.seek(max(0, size - 4000))
        lines = self._errors.read().decode("utf-8", "replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f"; its last message: {last[-300:]}" if last else ""

    def close(self) -> None:
        """Let the process close its model, such as temporary files, and end; kill it if it does not."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_SECONDS_TO_CLOSE)
        self.kill()

    def kill(self) -> None:
        """End the process now."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def __enter__(self) -> ModelProcess:
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        if kind is None:
            self.close()
        else:
            self.kill()  # it may be in the middle of a query
