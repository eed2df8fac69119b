"""Embedding and late-interaction models have the same scores in sentence-transformers, by the code of their cards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.late_models import LATE_MODELS, late_model
from helpers.separate_folders import PAIRS, WIDTH, layer, our_scores, published

from rerank_core import Head, ModelSpec, Template
from rerank_trainers.publish.folders.colbert import write_colbert
from rerank_trainers.publish.folders.embedding import write_embedding
from rerank_trainers.publish.other_libraries import plain_scores, plain_use

pytest.importorskip("sentence_transformers", minversion="6")

LONG = "bamboo and fish " * 60


def embedding(folder: Path, **more: Any) -> ModelSpec:
    """A published embedding model with a layer and prompts."""
    given = {"template": Template.each("query: {query}", "passage: {doc}"), **more}
    head = Head.cosine("mean", ["2_Dense"])
    spec = published(folder, "bert", head, [layer(WIDTH, 8)], ["2_Dense"], **given)
    write_embedding(folder, spec)
    return spec


def run(lines: Sequence[str], folder: Path) -> float:
    """The score that a card's code computes."""
    code = "\n".join(line[4:] for line in lines if line.startswith("    ") or not line)
    values: dict[str, Any] = {}
    exec(code.replace("path/to/this/folder", str(folder)), values)
    return float(values["score"])


def test_an_embedding_model(tmp_path: Path) -> None:
    spec = embedding(tmp_path)
    expected = our_scores(tmp_path)

    assert plain_scores(tmp_path, spec, PAIRS) == {"sentence-transformers": pytest.approx(expected, abs=1e-5)}
    assert run(plain_use(spec), tmp_path) == pytest.approx(
        our_scores(tmp_path, [("what is a panda?", "a bear")])[0], abs=1e-5
    )


@pytest.mark.parametrize("name", ["stanford", "mini", "m3", "both sides"])
def test_late_interaction(name: str, tmp_path: Path) -> None:
    spec = late_model(tmp_path, name)
    write_colbert(tmp_path, spec)
    expected = our_scores(tmp_path)

    assert plain_scores(tmp_path, spec, PAIRS) == {"sentence-transformers": pytest.approx(expected, rel=1e-5, abs=1e-5)}
    assert run(plain_use(spec, tmp_path), tmp_path) == pytest.approx(
        our_scores(tmp_path, [("what is a panda?", "a bear")])[0], abs=1e-5
    )


def test_pairs_that_are_laid_out_differently_have_no_score(tmp_path: Path) -> None:
    """Texts that are cut there, and texts that spell special tokens."""
    spec = embedding(tmp_path, max_query_length=8, max_length=32)
    pairs = [
        ("a", "b"),
        ("a", LONG),
        (LONG, "b"),
        ("a [SEP]", "b"),
        ("a", "[MASK]"),
        ("fish " * 8, "b"),
        ("fish " * 9, "b"),
    ]

    (scores,) = plain_scores(tmp_path, spec, pairs).values()
    assert [score is None for score in scores] == [False, True, True, True, True, False, True]


def test_a_filled_up_query_and_its_marker_have_limits(tmp_path: Path) -> None:
    """PyLate's layout cuts queries at the length to which shorter ones are filled up, and text can spell a marker."""
    spec = late_model(tmp_path, "stanford")
    write_colbert(tmp_path, spec)
    pairs = [("fish " * 21, "b"), ("fish " * 22, "b"), ("a", "[unused1]"), ("a", "b")]

    (scores,) = plain_scores(tmp_path, spec, pairs).values()
    assert [score is None for score in scores] == [False, True, True, False]


def test_a_fault_in_the_files_is_seen(tmp_path: Path) -> None:
    """Other prompts give other scores."""
    spec = embedding(tmp_path)
    write_embedding(tmp_path, replace(spec, template=Template.each()))

    (scores,) = plain_scores(tmp_path, spec, PAIRS).values()
    assert max(abs(score - own) for score, own in zip(map(float, scores), our_scores(tmp_path), strict=True)) > 1e-3


def test_a_model_without_files_needs_rerank_core(tmp_path: Path) -> None:
    """The card says why."""
    spec = late_model(tmp_path, "plain")
    spec = replace(spec, template=Template.each("{query} ?"))
    write_colbert(tmp_path, spec)

    assert plain_scores(tmp_path, spec, PAIRS) == {}
    assert "text after {query}" in plain_use(spec, tmp_path)[0]


def test_the_card_names_the_readers_and_their_differences(tmp_path: Path) -> None:
    lines = {}
    for name in LATE_MODELS:
        spec = late_model(tmp_path / name, name)
        write_colbert(tmp_path / name, spec)
        lines[name] = " ".join(plain_use(spec, tmp_path / name))

    assert "`pylate.models.ColBERT(folder)` reads it." in lines["plain"]
    assert "BGE-M3" not in lines["plain"]
    assert "reads it: it sums where the model averages" in lines["mini"]
    assert "It has BGE-M3's file: FlagEmbedding needs sparse_linear.pt" in lines["m3"]
    assert "PyLate cannot express the model: its skip-list is for documents only." in lines["both sides"]
