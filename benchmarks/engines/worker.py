"""The process of an engine: it loads a model once, then answers requests, one JSON line each.

Runs in the environments of other libraries, so it imports only the standard library and torch.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

__all__ = ["Reply", "open_reply", "serve"]

Reply: TypeAlias = Callable[[dict[str, Any]], None]
"""Writes one answer."""


def open_reply() -> Reply:
    """Return the function that writes answers to stdout, and make the settings that all engines share.

    Some libraries print to stdout, so their output is sent to stderr, and only answers go to the pipe that was stdout.
    Access to the hub, warnings and logs are off, and torch uses every CPU.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    pipe = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    import torch

    torch.set_num_threads(os.cpu_count() or 1)

    def reply(answer: dict[str, Any]) -> None:
        pipe.write(json.dumps(answer) + "\n")
        pipe.flush()

    return reply


def serve(load: Callable[[], Callable[[Any, bool], dict[str, Any]]]) -> None:
    """Answer every request on stdin: ``{"file": path of the work, "warm_up": bool}``. ``load`` of an answer is the
    seconds that loading took, the imports of the library included, but not torch's.

    Args:
        load: loads the model, and returns a function that measures one piece of work, or a small part of it as a
            warm-up.
    """
    reply = open_reply()
    started = time.perf_counter()
    measure = load()
    seconds = time.perf_counter() - started
    for line in sys.stdin:
        request = json.loads(line)
        answer = measure(json.loads(Path(request["file"]).read_text(encoding="utf-8")), request["warm_up"])
        reply({"load": seconds, **answer})
