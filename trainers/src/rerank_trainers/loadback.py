"""``python -m rerank_trainers.loadback DIR PROBES [--padded]``: a folder's scores in a process that knows nothing else.

PROBES is JSON, a list of ``[query, document]``; the last line on stdout is a JSON object with their raw ``scores``,
with ``--padded`` those of the slow way that computes padding.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import rerank_core

__all__ = ["main"]


def main(directory: str, probes: str, *flags: str) -> None:
    """Load on the CPU, score, write."""
    pairs = [(query, doc) for query, doc in json.loads(Path(probes).read_text(encoding="utf-8"))]
    with rerank_core.load(directory, device="cpu") as reranker:
        if "--padded" in flags:
            scorer: Any = reranker.scorer
            scorer.packed = False
        scores = reranker.score(pairs)
    sys.stdout.write("\n" + json.dumps({"scores": scores}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
