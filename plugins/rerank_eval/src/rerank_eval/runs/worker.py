"""The process of one model: loads it once and ranks the queries that its parent sends, until its input ends.

JSON lines on stdin: first ``{"source", "options"}``, then one query a line, ``{"id", "query", "documents",
"instruction"}``. JSON lines on stdout, each with an ``event``: ``loaded`` or ``failed`` once, ``ranked`` for each
query, ``warning`` at any time. Everything else that is printed here goes to stderr.

The input also ends where the parent was killed; then the process stops in the middle of a query.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from typing import IO, Any

from rerank_core import Reranker, RerankError, load
from rerank_eval.runs.facts import facts_of, peak_bytes, public_options
from rerank_eval.runs.measuring import query_run

__all__ = ["main"]

# Time in which a model may still close itself, such as remove temporary files, after the parent has ended.
_SECONDS_TO_STOP = 2.0


def main() -> None:
    """Serve the parent process until it closes the pipe or ends."""
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(2, 1)  # prints of models and libraries, also of their C code
    sys.stdout = sys.stderr
    parent = _Parent(sys.stdin, replies)
    logging.getLogger("rerank_core").addHandler(_Forward(parent))
    requests = iter(parent)
    reranker = _load(json.loads(next(requests)), parent)
    if reranker is None:
        return
    with reranker:
        for line in requests:
            request = json.loads(line)
            run = query_run(reranker, request["id"], request["query"], request["documents"], request.get("instruction"))
            parent.send({"event": "ranked", "run": run.to_json(), "peak_bytes": peak_bytes()})


class _Parent:
    """The requests of the parent, one after another, and the replies to them.

    A thread reads the requests, so that the process stops if the input ends while one is served: the parent was killed,
    since it closes a model only after the reply.
    """

    def __init__(self, requests: IO[str], replies: IO[str]) -> None:
        self._requests, self._replies = requests, replies
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._serves = self._ended = False
        # Ctrl-C is for the parent, which then closes the pipe.
        signal.signal(signal.SIGINT, self._interrupted)
        threading.Thread(target=self._read, daemon=True).start()

    def __iter__(self) -> Iterator[str]:
        """Yield each request until the input ends."""
        while (line := self._lines.get()) is not None:
            yield line

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a warning, or the reply to the request."""
        if message["event"] != "warning":
            self._serves = False
        # ASCII, so that lone surrogates in a message do no harm.
        self._replies.write(json.dumps(message) + "\n")
        self._replies.flush()

    def _read(self) -> None:
        for line in self._requests:
            self._serves = True
            self._lines.put(line)
        self._ended = True
        self._lines.put(None)
        if self._serves:
            if hasattr(signal, "pthread_kill"):
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            time.sleep(_SECONDS_TO_STOP)
            os._exit(1)

    def _interrupted(self, number: int, frame: object) -> None:
        if self._ended:
            raise SystemExit(1)


def _load(request: Mapping[str, Any], parent: _Parent) -> Reranker | None:
    """Load the model and report its facts; None where it cannot be loaded, which is reported too."""
    start = time.perf_counter()
    try:
        reranker = load(request["source"], **request["options"])
        facts = facts_of(reranker, time.perf_counter() - start)
        known = {"fingerprint": _fingerprint(reranker), "options": public_options(reranker), "facts": facts.to_json()}
    except Exception as error:  # noqa: BLE001 -- a plugin may fail in any way, and the other models go on
        text = str(error) if isinstance(error, RerankError) else f"{type(error).__name__}: {error}"
        parent.send({"event": "failed", "message": text})
        return None
    parent.send({"event": "loaded", **known})
    return reranker


def _fingerprint(reranker: Reranker) -> str:
    """The model's fingerprint; empty where it has none, so that its results cannot be kept."""
    try:
        return reranker.fingerprint
    except RerankError as error:
        logging.getLogger("rerank_core").warning("its results cannot be kept: %s", error)
        return ""


class _Forward(logging.Handler):
    """Sends the library's warnings to the parent."""

    def __init__(self, parent: _Parent) -> None:
        super().__init__(logging.WARNING)
        self._parent = parent

    def emit(self, record: logging.LogRecord) -> None:
        self._parent.send({"event": "warning", "message": record.getMessage()})


if __name__ == "__main__":
    main()
