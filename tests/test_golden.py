"""Real weights give the scores that were published, and those of the original framework.

RERANK_WEIGHTS names a folder with one checkpoint per model, in a folder of the model's name. Tests whose weights are
missing are skipped, counted by reason.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import rerank_core
from helpers.scripts import module_of

ROOT = Path(__file__).resolve().parent.parent
TOOL = module_of(ROOT / "tools" / "published.py")
PUBLISHED = TOOL.published(TOOL.files_of(os.environ.get("RERANK_DATA")))
# Weights that are installed with pip are tested wherever the package is.
MODELS = [
    spec.name for spec in rerank_core.models() if spec.head is not None and not spec.checkpoint.startswith("package:")
]


def weights(model: str) -> Path:
    """The folder of a model's real weights; skips the test without them."""
    place = os.environ.get("RERANK_WEIGHTS")
    if not place:
        pytest.skip("RERANK_WEIGHTS is not set: the real weights are needed")
    if not (Path(place) / model).is_dir():
        pytest.skip("RERANK_WEIGHTS has no folder of this model's name: its real weights are needed")
    return Path(place) / model


@pytest.mark.weights
@pytest.mark.parametrize("entry", PUBLISHED, ids=lambda entry: f"{entry.model}, {entry.source}")
def test_published_scores(entry: Any) -> None:
    """Scores are those that the authors, or another library, published, up to the precision of the publication."""
    folder = weights(entry.model)
    reranker = rerank_core.load(entry.model, checkpoint=folder, device="cpu", **entry.options)
    raw = reranker.score(entry.pairs, **entry.call)

    assert TOOL.largest_difference(entry, raw) <= entry.tolerance, (entry.source, entry.scores, raw)


@pytest.mark.weights
@pytest.mark.parametrize("model", MODELS)
def test_scores_of_the_original(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Short, long and empty documents have the scores of the framework that runs the model beside ours."""
    folder = weights(model)
    pytest.importorskip("sentence_transformers", reason="needs the package sentence-transformers")
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    report = module_of(ROOT / "tools" / "verify_model.py").verify(model, str(folder), scores=())
    if report.framework is None:
        pytest.skip("the original framework does not run here")

    assert report.difference is not None
    assert report.difference <= report.tolerance, report.pairs


def test_every_publication_can_be_compared() -> None:
    """Each has a score per pair, for a model that is tested, and a tolerance that a wrong model exceeds."""
    assert len(PUBLISHED) >= 20
    assert {entry.model for entry in PUBLISHED} <= set(MODELS)
    assert all(len(entry.pairs) == len(entry.scores) > 0 < entry.tolerance < 0.2 for entry in PUBLISHED)
    assert all(0 <= score <= 1 for entry in PUBLISHED if entry.probability for score in entry.scores)
