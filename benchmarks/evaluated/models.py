"""The models that can run without a hub: the embedded ones, and models that vector_training.py has trained."""

from __future__ import annotations

from pathlib import Path

from vectors.catalogue import RUNS
from vectors.results import Results
from vectors.tasks import Bench
from vectors.training import averaged_model

from rerank_trainers.publish.publish import publish

__all__ = ["EMBEDDED", "TRAINED", "published"]

EMBEDDED = ("mini", "mini-multilingual")
TRAINED = {
    "WikiQA cross-encoder": ("wikiqa cross-encoder", 0.0),
    "WikiQA embedding": ("wikiqa embedding", 0.5),
    "cEpilepsyQA ColBERT": ("cepilepsyqa colbert", 0.5),
}
"""Names in the table, with the run of the catalogue and the share of the start's weights."""


def published(name: str, data: Path, cache: Path, folder: Path) -> Path:
    """The folder of a trained model; weights that are not in the cache are trained first.

    Args:
        cache: training files and weights of vector_training.py.
        folder: where models are published.
    """
    run_name, share = TRAINED[name]
    target = folder / name.replace(" ", "-").lower()
    if not target.is_dir():
        run = RUNS[run_name]
        weights = Bench(data, cache, Results(folder / "trained.jsonl")).weights(run, 1)
        publish(averaged_model(run, weights, share), target)
    return target
