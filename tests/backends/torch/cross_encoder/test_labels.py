"""A classifier with several labels scores by the log-odds of one of them, as plain transformers computes it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import rerank_core
from helpers.plain import DOCUMENTS, QUERIES, PlainCrossEncoder, assert_close
from rerank_core import CheckpointError, Head, InputError, ModelSpec
from rerank_core.backends.torch.label_score import label_score
from rerank_core.testing import ScorerConformance, fake_spec, tiny_cross_encoder


def folder(path: Path, labels: Sequence[str], family: Any = "bert") -> Path:
    """A tiny classifier with these labels."""
    directory = tiny_cross_encoder(path, family, labels=len(labels))
    config = json.loads((directory / "config.json").read_text("utf-8"))
    config["id2label"] = {str(at): label for at, label in enumerate(labels)}
    config["label2id"] = {label: at for at, label in enumerate(labels)}
    (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return directory


def plain_logits(directory: Path) -> torch.Tensor:
    """``[documents, labels]``, one pair at a time."""
    plain = PlainCrossEncoder(directory)
    with torch.inference_mode():
        rows = [plain.model(**plain.pair(QUERIES[0], doc, return_tensors="pt")).logits[0] for doc in DOCUMENTS]
    return torch.stack(rows)


def scores(directory: Path, **options: Any) -> list[float]:
    loaded = rerank_core.load(str(directory), device="cpu", **options)
    assert loaded.scorer.packed
    return loaded.rerank(QUERIES[0], DOCUMENTS).scores()


@pytest.mark.parametrize("labels", [("no", "yes"), ("相关", "不相关")])
def test_two_labels_score_by_the_difference(labels: tuple[str, str], tmp_path: Path) -> None:
    """The logit of the label that means relevant less the other's; the option turns it round."""
    directory = folder(tmp_path, labels)
    logits = plain_logits(directory)
    relevant = labels.index("yes" if "yes" in labels else "相关")
    expected = (logits[:, relevant] - logits[:, 1 - relevant]).tolist()

    assert max(expected) - min(expected) > 0.1
    assert_close(expected, scores(directory))
    assert_close([-score for score in expected], scores(directory, label=labels[1 - relevant]))
    assert_close(expected, scores(directory, label=str(relevant)))


def test_of_more_labels_one_scores_against_all_others(tmp_path: Path) -> None:
    """The log-odds of the chosen label; without a choice loading fails and says how to choose."""
    directory = folder(tmp_path, ("contradiction", "entailment", "neutral"))
    with pytest.raises(InputError, match=r"0: 'contradiction', 1: 'entailment', 2: 'neutral'.*label="):
        rerank_core.load(str(directory), device="cpu")
    probabilities = plain_logits(directory).double().softmax(dim=-1)[:, 1]

    assert_close(torch.logit(probabilities).tolist(), scores(directory, label="entailment"))


@pytest.mark.parametrize("labels", [("negative", "positive"), ("LABEL_0", "LABEL_1")])
def test_labels_of_something_else_are_refused(labels: tuple[str, str], tmp_path: Path) -> None:
    """A sentiment classifier, or one without names, is no reranker until the caller says so."""
    directory = folder(tmp_path, labels)
    with pytest.raises(InputError, match="label="):
        rerank_core.load(str(directory), device="cpu")
    logits = plain_logits(directory)

    assert_close((logits[:, 1] - logits[:, 0]).tolist(), scores(directory, label=1))


def test_a_spec_with_other_labels_than_the_checkpoint_is_refused(tmp_path: Path) -> None:
    """A head whose labels stand in another order would give every score the wrong sign."""
    directory = folder(tmp_path, ("yes", "no"))
    spec = ModelSpec(name="x", head=Head.classifier(labels=("no", "yes"), label="yes"), checkpoint=str(directory))
    rerank_core.write_spec(spec, directory)
    with pytest.raises(CheckpointError, match=r"\['no', 'yes'\].*\['yes', 'no'\]"):
        rerank_core.load(str(directory), device="cpu")
    rerank_core.write_spec(fake_spec(), directory)
    with pytest.raises(CheckpointError, match=r"2 labels.*label="):
        rerank_core.load(str(directory), device="cpu")


def test_log_odds_are_finite_for_large_logits() -> None:
    """No exponential overflows, in half precision too."""
    logits = torch.tensor([[-300.0, 400.0, 380.0], [500.0, -500.0, 0.0]])

    assert label_score(logits, 1).tolist() == [20.0, -1000.0]
    assert label_score(logits[:, :2].half(), 0).tolist() == [-700.0, 1000.0]
    assert label_score(logits[:, :1], 0).tolist() == [-300.0, 500.0]


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> rerank_core.Reranker:
    """A reranker with the labels no and yes."""
    directory = folder(tmp_path_factory.mktemp("two"), ("no", "yes"), "xlm-roberta")
    return rerank_core.load(str(directory), device="cpu", max_length=64)


class TestTwoLabels(ScorerConformance):
    """The conformance suite over two labels."""
