"""Other libraries open a published late-interaction model, and its vectors and scores are rerank-core's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.late_models import DENSE, LATE_MODELS, late_model
from helpers.separate_folders import (
    DOCS,
    QUERIES,
    WIDTH,
    layer,
    our_scores,
    our_vectors,
    published,
)

from rerank_core import CheckpointError, Head, InputError, ModelSpec, Template, TokenVectors
from rerank_trainers.publish.folders.colbert import write_colbert
from rerank_trainers.publish.folders.dense import write_projection


def opened(folder: Path) -> Any:
    """The folder in sentence-transformers."""
    sentence_transformers = pytest.importorskip("sentence_transformers", minversion="6")
    return sentence_transformers.MultiVectorEncoder(
        str(folder), device="cpu", local_files_only=True, model_kwargs={"dtype": torch.float32}
    )


@pytest.mark.parametrize("shared", [True, False], ids=["shared", "native"])
@pytest.mark.parametrize("name", LATE_MODELS)
def test_the_vectors_are_ours(name: str, shared: bool, tmp_path: Path) -> None:
    """In sentence-transformers, from PyLate's files and from those of `MultiVectorEncoder`."""
    spec = late_model(tmp_path, name)
    asked: Any = ("sentence-transformers", "pylate", "bge-m3") if shared else ("sentence-transformers",)
    layouts = write_colbert(tmp_path, spec, layouts=asked)
    assert layouts.written == tuple(layout for layout in LATE_MODELS[name][1] if layout in asked)
    theirs = opened(tmp_path)

    for texts, side, encode in ((QUERIES, "query", theirs.encode_query), (DOCS, "doc", theirs.encode_document)):
        for mine, other in zip(our_vectors(tmp_path, texts, side), encode(texts), strict=True):
            torch.testing.assert_close(other, mine, atol=1e-5, rtol=0)
    scores = theirs.similarity(theirs.encode_query(QUERIES), theirs.encode_document(DOCS)).flatten()
    expected = torch.tensor(our_scores(tmp_path))
    assert expected.std() > 0.001
    torch.testing.assert_close(scores, expected, atol=1e-5, rtol=1e-5)


def test_a_long_query_is_not_cut_in_their_own_layout(tmp_path: Path) -> None:
    """Queries are filled up to a length, and longer ones are read whole; PyLate cuts them, and a note says so."""
    spec = late_model(tmp_path, "stanford")
    query = "what is a panda? " * 12
    assert "cuts queries at 24 tokens" in write_colbert(tmp_path, spec).notes["pylate"][0]

    write_colbert(tmp_path, spec, layouts=("sentence-transformers",))
    theirs = opened(tmp_path)
    scores = theirs.similarity(theirs.encode_query([query]), theirs.encode_document(DOCS)).flatten()
    torch.testing.assert_close(scores, torch.tensor(our_scores(tmp_path, [(query, doc) for doc in DOCS])))


def test_a_limit_of_queries_is_theirs_too(tmp_path: Path) -> None:
    """The prompt and special tokens count there, and not here."""
    spec = late_model(tmp_path, "prompts")
    write_colbert(tmp_path, spec)
    query = "bamboo fish birds eggs panda bear " * 8
    theirs = opened(tmp_path)

    (other,) = theirs.encode_query([query])
    assert len(other) == theirs[0].query_length
    scores = theirs.similarity([other], theirs.encode_document(DOCS)).flatten()
    torch.testing.assert_close(scores, torch.tensor(our_scores(tmp_path, [(query, doc) for doc in DOCS])))


def test_bge_m3s_file_is_read_by_its_loader(tmp_path: Path) -> None:
    """Beside the weights alone, without our settings and those of sentence-transformers."""
    spec = late_model(tmp_path / "ours", "m3")
    write_colbert(tmp_path / "ours", spec)
    saved = torch.load(tmp_path / "ours" / "colbert_linear.pt", weights_only=True)
    assert sorted(saved) == ["bias", "weight"]
    (tmp_path / "m3").mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "colbert_linear.pt"):
        shutil.copy(tmp_path / "ours" / name, tmp_path / "m3")

    assert our_scores(tmp_path / "m3") == pytest.approx(our_scores(tmp_path / "ours"), abs=1e-6)


@pytest.mark.parametrize("name", LATE_MODELS)
def test_a_folder_without_our_settings_is_the_same_model(name: str, tmp_path: Path) -> None:
    """The plugin for late interaction reads the files, except two masks."""
    spec = late_model(tmp_path, name)
    write_colbert(tmp_path, spec)
    expected = our_scores(tmp_path)
    (tmp_path / "reranker.json").unlink()

    if name == "two masks":
        with pytest.raises(CheckpointError, match="second MultiVectorMask"):
            our_scores(tmp_path)
        return
    assert our_scores(tmp_path) == pytest.approx(expected, abs=1e-5)


def test_a_layer_without_bias_gets_zeros(tmp_path: Path) -> None:
    """FlagEmbedding loads both tensors."""
    spec = late_model(tmp_path, "m3")
    write_projection(tmp_path, [layer(WIDTH, 16, bias=False)], ["1_Dense"])
    write_colbert(tmp_path, spec)

    assert torch.load(tmp_path / "colbert_linear.pt", weights_only=True)["bias"].tolist() == [0.0] * 16


def test_an_ordinary_word_is_no_marker(tmp_path: Path) -> None:
    """The libraries would read it as the marker in every text, so their files are left out, and a note says why."""
    spec = published(
        tmp_path, "bert", Head.maxsim(vectors=TokenVectors(**DENSE)), [layer(WIDTH, 8)], ["1_Dense"],
        template=Template.each(query_marker="the"),
    )  # fmt: skip
    layouts = write_colbert(tmp_path, spec)

    assert layouts.written == ()
    assert "the marker 'the' is an ordinary word" in layouts.notes["pylate"][0]
    assert not (tmp_path / "modules.json").exists()


def test_text_behind_the_callers_is_a_note(tmp_path: Path) -> None:
    spec = published(tmp_path, "bert", Head.maxsim(), template=Template.each("{query} ?"))
    layouts = write_colbert(tmp_path, spec)

    assert layouts.written == ()
    assert "text after {query}" in layouts.notes["pylate"][0]


def test_each_difference_has_a_note(tmp_path: Path) -> None:
    """A mean where PyLate sums, a first token that it cannot leave out."""
    notes = {}
    for name in LATE_MODELS:
        spec = late_model(tmp_path / name, name)
        notes[name] = {layout: " ".join(said) for layout, said in write_colbert(tmp_path / name, spec).notes.items()}

    assert "sums where the model averages" in notes["mini"]["pylate"]
    assert "no setting for a first token" in notes["m3"]["pylate"]
    assert "sparse_linear.pt" in notes["m3"]["bge-m3"]
    assert "colbert_dim=16" in notes["m3"]["bge-m3"]
    assert "documents only" in notes["both sides"]["pylate"]
    assert "prompt_name" in notes["prompts"]["pylate"]
    assert not any(said["sentence-transformers"] for said in notes.values())


def test_a_plain_model_has_an_identity_for_pylate(tmp_path: Path) -> None:
    """PyLate would add a random layer."""
    write_colbert(tmp_path, late_model(tmp_path, "mini"))

    assert [entry["path"] for entry in json.loads((tmp_path / "modules.json").read_text("utf-8"))] == ["", "1_Dense"]


def test_only_late_interaction_is_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no late-interaction model"):
        write_colbert(tmp_path, ModelSpec("cosine", head=Head.cosine(), template=Template.each()))
    with pytest.raises(InputError, match="'onnx'"):
        write_colbert(tmp_path, late_model(tmp_path, "plain"), layouts=("onnx",))  # type: ignore[arg-type]
