"""The process of one model: loads it once and ranks the queries that its parent sends, until its input ends.

JSON lines on stdin: first ``{"source", "options"}``, then one query a line, ``{"id", "query", "documents",
"instruction"}``. JSON lines on stdout, each with an ``event``: ``loaded`` or ``failed`` once, ``ranked`` for each
query, ``warning`` at any time. Everything else that is printed here goes to stderr.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from collections.abc import Mapping
from typing import IO, Any

from rerank_core import Reranker, RerankError, load
from rerank_eval.runs.facts import facts_of, peak_bytes, public_options
from rerank_eval.runs.measuring import query_run

__all__ = ["main"]


def main() -> None:
    """Serve the parent process until it closes the pipe or ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which closes the pipe
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(2, 1)  # prints of models and libraries, also of their C code
    sys.stdout = sys.stderr
    requests = sys.stdin
    logging.getLogger("rerank_core").addHandler(_Forward(replies))
    reranker = _load(json.loads(requests.readline()), replies)
    if reranker is None:
        return
    with reranker:
        for line in requests:
            request = json.loads(line)
            run = query_run(reranker, request["id"], request["query"], request["documents"], request.get("instruction"))
            _send(replies, {"event": "ranked", "run": run.to_json(), "peak_bytes": peak_bytes()})


def _load(request: Mapping[str, Any], replies: IO[str]) -> Reranker | None:
    """Load the model and report its facts; None where it cannot be loaded, which is reported too."""
    start = time.perf_counter()
    try:
        reranker = load(request["source"], **request["options"])
        facts = facts_of(reranker, time.perf_counter() - start)
        known = {"fingerprint": _fingerprint(reranker), "options": public_options(reranker), "facts": facts.to_json()}
    except Exception as error:  # noqa: BLE001 -- a plugin may fail in any way, and the other models go on
        text = str(error) if isinstance(error, RerankError) else f"{type(error).__name__}: {error}"
        _send(replies, {"event": "failed", "message": text})
        return None
    _send(replies, {"event": "loaded", **known})
    return reranker


def _fingerprint(reranker: Reranker) -> str:
    """The model's fingerprint; empty where it has none, so that its results cannot be kept."""
    try:
        return reranker.fingerprint
    except RerankError as error:
        logging.getLogger("rerank_core").warning("its results cannot be kept: %s", error)
        return ""


def _send(replies: IO[str], message: Mapping[str, Any]) -> None:
    # ASCII, so that lone surrogates in a message do no harm.
    replies.write(json.dumps(message) + "\n")
    replies.flush()


class _Forward(logging.Handler):
    """Sends the library's warnings to the parent."""

    def __init__(self, replies: IO[str]) -> None:
        super().__init__(logging.WARNING)
        self._replies = replies

    def emit(self, record: logging.LogRecord) -> None:
        _send(self._replies, {"event": "warning", "message": record.getMessage()})


if __name__ == "__main__":
    main()
