"""Classifiers that pool the mean of their tokens run on packed rows, with the scores of plain transformers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import rerank_core
from helpers.models.encoder_folders import encoder_folder
from helpers.plain import DOCUMENTS, LONG, QUERIES, assert_close
from helpers.training import apart, gradients, live
from rerank_core.testing import ScorerConformance, fake_spec

DOCS = (*DOCUMENTS, DOCUMENTS[0], LONG)
CLASSIFIER = "AutoModelForSequenceClassification"


def logits(directory: Path, ids_of: Callable[[Any, str], Any], label: int = 0) -> list[float]:
    """Scores of plain transformers, one row at a time."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    auto: Any = AutoModelForSequenceClassification
    model, tokenizer = auto.from_pretrained(directory).eval(), AutoTokenizer.from_pretrained(directory)
    with torch.inference_mode():
        return [float(model(**ids_of(tokenizer, document)).logits[0, label]) for document in DOCS]


def pair(tokenizer: Any, document: str) -> Any:
    return tokenizer([QUERIES[0]], [document], truncation="only_second", max_length=512, return_tensors="pt")


@pytest.mark.parametrize(
    ("family", "pooling", "packed"),
    [
        ("modernbert", "mean", True),
        ("modernbert", "cls", True),
        ("eurobert", "mean", True),
        ("eurobert", "bos", True),
        ("eurobert", "late", False),
    ],
)
def test_scores_equal_hugging_faces(family: str, pooling: str, packed: bool, tmp_path: Path) -> None:
    """Each pooling; a head over every token (late) is padded."""
    directory = encoder_folder(tmp_path, family, CLASSIFIER, num_labels=1, classifier_pooling=pooling)
    loaded = rerank_core.load(str(directory), device="cpu", longdoc="firstp", max_length=512)
    expected = logits(directory, pair)

    assert max(expected) - min(expected) > 0.1
    assert loaded.scorer.packed is packed
    assert_close(expected, loaded.rerank(QUERIES[0], DOCS).scores())


def test_two_labels_of_a_mean_are_two_logits(tmp_path: Path) -> None:
    """The log-odds of a label, from the rows' means."""
    directory = encoder_folder(tmp_path, "modernbert", CLASSIFIER, num_labels=2, classifier_pooling="mean")
    loaded = rerank_core.load(str(directory), device="cpu", longdoc="firstp", max_length=512, label=1)
    both = [logits(directory, pair, label) for label in (0, 1)]

    assert loaded.scorer.packed
    assert_close([one - zero for zero, one in zip(*both, strict=True)], loaded.rerank(QUERIES[0], DOCS).scores())


def test_the_shortcut_of_the_last_layer_stays_off(tmp_path: Path) -> None:
    """A BERT whose head reads all tokens computes its last layer for all of them."""
    module, scorer = live(encoder_folder(tmp_path, "bert", CLASSIFIER, num_labels=1), fake_spec())
    scorer._pooling = "mean"
    assert scorer.skip_unread() is None
    assert module is scorer.module


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_packed_rows_have_the_gradient_of_padded_ones(pooling: str, tmp_path: Path) -> None:
    """Training through the pooled rows changes no gradient."""
    directory = encoder_folder(tmp_path, "modernbert", CLASSIFIER, std=0.1, num_labels=1, classifier_pooling=pooling)
    module, scorer = live(directory, fake_spec())
    expected, slow = gradients(module, scorer, packed=False)
    scores, fast = gradients(module, scorer, packed=True)

    assert scores == pytest.approx(expected, abs=1e-5)
    assert apart(fast, slow) < 1e-5


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> rerank_core.Reranker:
    """A tiny gte-reranker-modernbert."""
    folder = tmp_path_factory.mktemp("gte")
    directory = encoder_folder(folder, "modernbert", CLASSIFIER, num_labels=1, classifier_pooling="mean")
    return rerank_core.load(str(directory), device="cpu", max_length=64)


class TestMeanPooling(ScorerConformance):
    """The conformance suite over a mean-pooled ModernBERT."""
