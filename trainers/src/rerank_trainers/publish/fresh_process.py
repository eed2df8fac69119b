"""A folder's scores in a fresh process: ``python -m rerank_trainers.publish.fresh_process DIR PROBES [--padded]``.

PROBES is JSON, a list of ``[query, document]``; the last line on stdout is a JSON object with their raw ``scores``, and
those of other libraries as ``elsewhere`` (`other_libraries.plain_scores`). With ``--padded`` rerank-core computes
padded rows, and other libraries are not run.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import rerank_core
from rerank_trainers.publish.other_libraries import plain_scores

__all__ = ["main"]


def main(directory: str, probes: str, *flags: str) -> None:
    """Load the folder on the CPU, score the probes, and write the scores to stdout."""
    pairs = [(query, doc) for query, doc in json.loads(Path(probes).read_text(encoding="utf-8"))]
    with rerank_core.load(directory, device="cpu") as reranker:
        if "--padded" in flags:
            scorer: Any = reranker.scorer
            scorer.packed = False
        scores, spec = reranker.score(pairs), reranker.spec
    others = {} if "--padded" in flags else plain_scores(Path(directory), spec, pairs)
    sys.stdout.write("\n" + json.dumps({"scores": scores, "elsewhere": others}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
