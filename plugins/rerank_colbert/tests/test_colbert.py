"""Folders of late-interaction models are recognized by their files, and pass the conformance suite."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import rerank_core
from rerank_core import CheckpointError, InputError, Reranker, TokenVectors
from rerank_core.testing import ScorerConformance, tiny_encoder

DOCS = ["Pandas eat bamboo for most of the day.", "paris", "a bear, a bear", ""]
QUERY = "what do pandas eat?"


class TestColbertv2(ScorerConformance):
    """The conformance suite over a tiny ColBERTv2, which is read by the settings in its folder."""

    @pytest.fixture(scope="class")
    @classmethod
    def reranker(cls, stanford_once: Path) -> Reranker:
        return rerank_core.load(stanford_once, device="cpu")


class TestBgeM3(ScorerConformance):
    """The conformance suite over a tiny BGE-M3, all three scores fused."""

    @pytest.fixture(scope="class")
    @classmethod
    def reranker(cls, m3_once: Path) -> Reranker:
        return rerank_core.load("bge-m3-colbert", checkpoint=m3_once, device="cpu", max_length=64, score="fused")


def test_pylates_settings_are_read(pylate: Callable[..., Path]) -> None:
    """Lengths, prefixes, skip-list, augmentation and projection; prompts stand behind the marker as text."""
    folder = pylate(
        query_prefix="the", document_prefix="of", skiplist_words=["."], attend_to_expansion_tokens=True,
        prompts={"query": "ask: ", "document": ""},
    )  # fmt: skip
    spec = rerank_core.load(folder, device="cpu").spec

    assert spec.max_length == 64
    assert spec.max_query_length is None
    assert (spec.template.query_marker, spec.template.doc_marker) == ("the", "of")
    assert (spec.template.query, spec.template.doc) == ("ask: {query}", "{doc}")
    assert spec.head is not None
    assert spec.head.reduce == "sum"
    assert spec.head.vectors == TokenVectors(
        projection=("1_Dense",), skip=(".",), expand_to=24, expand_with="[MASK]", attend_expansion=True
    )


def test_a_prefix_that_is_no_token_is_text(pylate: Callable[..., Path]) -> None:
    """As sentence-transformers reads it: tokenized with the text behind it."""
    spec = rerank_core.load(pylate(query_prefix="no such token: "), device="cpu").spec

    assert spec.template.query_marker == ""
    assert spec.template.query == "no such token: {query}"


def test_a_query_is_filled_up_and_not_cut(pylate: Callable[..., Path]) -> None:
    """Up to query_length with masks, that others do not attend to; a longer one is read whole."""
    scorer: Any = rerank_core.load(pylate(), device="cpu").scorer
    short, long = scorer.tokenize(["a bear", "a bear " * 40], "query")
    filled = scorer.query_row(short)
    mask = scorer.tokenizer.raw.token_to_id("[MASK]")

    assert len(filled.ids) == 24
    assert filled.ids[filled.attended :] == [mask] * (24 - len(short) - 2)
    assert len(scorer.query_row(long).ids) == len(long) + 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"more": [{"path": "2_HierarchicalPooling", "type": "x.HierarchicalPooling"}]}, "HierarchicalPooling"),
        ({"query_length": 0, "do_query_expansion": True, "skiplist_words": [7]}, "skip"),
    ],
)
def test_what_would_change_the_vectors_is_refused(
    pylate: Callable[..., Path], change: dict[str, Any], message: str
) -> None:
    """A module that is not known, a skip-list that is none."""
    with pytest.raises((CheckpointError, InputError), match=message):
        rerank_core.load(pylate(**change), device="cpu")


def test_a_projection_of_another_width_is_refused(pylate: Callable[..., Path]) -> None:
    """Files of two models do not make one."""
    folder = pylate()
    torch.save({"weight": torch.zeros(4, 99)}, folder / "colbert_linear.pt")
    (folder / "config_sentence_transformers.json").unlink()

    with pytest.raises(CheckpointError, match=r"colbert_linear.pt.*99.*do not belong together"):
        rerank_core.load(folder, device="cpu")


def test_colbert_of_another_similarity_is_refused(stanford: Callable[..., Path]) -> None:
    """ColBERT could be trained with L2; scoring it by cosine would be another model."""
    with pytest.raises(CheckpointError, match="similarity is 'l2'"):
        rerank_core.load(stanford(similarity="l2"), device="cpu")


class _Bomb:
    """What runs a command where a pickle is opened carelessly."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


def test_a_pickle_that_runs_code_is_refused(m3: Path, tmp_path: Path) -> None:
    """colbert_linear.pt is read as tensors and nothing else."""
    torch.save({"weight": _Bomb(tmp_path / "ran")}, m3 / "colbert_linear.pt")

    with pytest.raises(CheckpointError, match=r"colbert_linear.pt cannot be read as a file of tensors"):
        rerank_core.load(m3, device="cpu")
    assert not (tmp_path / "ran").exists()


def test_the_path_decides_nothing(tmp_path: Path) -> None:
    """A bare encoder in a folder called like a model is still no reranker."""
    with pytest.raises(CheckpointError, match="no reranker that can be recognised"):
        rerank_core.load(tiny_encoder(tmp_path / "bge-m3-colbert", "bert"), device="cpu")


def test_bge_m3s_own_file_of_weights(m3: Path) -> None:
    """It is published as pytorch_model.bin alone: the named model reads that, a folder by its path does not."""
    expected = rerank_core.load("bge-m3-colbert", checkpoint=m3, device="cpu", max_length=64).rerank(QUERY, DOCS)
    torch.save(load_file(m3 / "model.safetensors"), m3 / "pytorch_model.bin")
    (m3 / "model.safetensors").unlink()

    found = rerank_core.load("bge-m3-colbert", checkpoint=m3, device="cpu", max_length=64).rerank(QUERY, DOCS)
    assert found.scores() == pytest.approx(expected.scores(), abs=1e-6)
    with pytest.raises(CheckpointError, match="no safetensors"):
        rerank_core.load(m3, device="cpu")


def test_bge_m3s_scores(m3: Path, tmp_path: Path) -> None:
    """Each is on every hit, the chosen one ranks, and one index serves them all."""
    reranker = rerank_core.load(m3, device="cpu")
    index = reranker.index(DOCS, tmp_path / "index")
    given = {"dense_weight": 2, "sparse_weight": 0.5, "colbert_weight": 1}
    for score in ("colbert", "dense", "sparse", "fused"):
        direct, kept = (reranker.rerank(QUERY, docs, score=score, **given) for docs in (DOCS, index))
        assert direct.scores() == pytest.approx(kept.scores(), abs=1e-6)
        for hit in direct:
            assert hit.score == hit.scores[score]
            assert next(iter(hit.scores)) == score
            if score == "fused":
                sums = 2 * hit.scores["dense"] + 0.5 * hit.scores["sparse"] + hit.scores["colbert"]
                assert hit.score == pytest.approx(sums / 3.5, abs=1e-6)
    with pytest.raises(InputError, match="weights"):
        reranker.rerank(QUERY, DOCS, score="fused", dense_weight=-1)


def test_shared_words_are_explained(m3: Path) -> None:
    """The sparse score is a sum over words that both texts have; dense and fused scores are no sum over tokens."""
    reranker = rerank_core.load(m3, device="cpu", score="sparse")
    query, doc = "a panda and a bear", "the bear saw a panda, and a bird"
    (hit,) = reranker.rerank(query, [doc], explain=True)

    assert hit.score > 0
    assert sum(match.weight for match in hit.matches) == pytest.approx(hit.score, abs=1e-6)
    for match in hit.matches:
        assert match.query_token == match.document_token
        assert match.query is not None
        assert match.document is not None
        assert query[slice(*match.query)] == doc[slice(*match.document)]
    for score in ("dense", "fused"):
        with pytest.raises(InputError, match="no sum over tokens"):
            reranker.rerank(query, [doc], score=score, explain=True)


def test_a_named_model_takes_its_rules_to_other_weights(stanford: Callable[..., Path]) -> None:
    """``colbertv2`` with a checkpoint needs its markers in the vocabulary, and says which is missing."""
    with pytest.raises(CheckpointError, match=r"\[unused1\]"):
        rerank_core.load("colbertv2", checkpoint=stanford(), device="cpu")


@pytest.mark.parametrize("name", ["gte-moderncolbert", "lateon", "mxbai-edge-colbert-17m", "answerai-colbert-small"])
def test_a_published_model_takes_its_rules_from_its_folder(
    name: str, pylate: Callable[..., Path], stanford: Callable[..., Path]
) -> None:
    """The name brings the limit; markers, expansion, skipped tokens and projection are the folder's."""
    folder = stanford() if name == "answerai-colbert-small" else pylate(query_prefix="the", do_query_expansion=False)
    named = rerank_core.load(name, checkpoint=folder, device="cpu")
    alone = rerank_core.load(folder, device="cpu")

    assert named.rerank(QUERY, DOCS).scores() == pytest.approx(alone.rerank(QUERY, DOCS).scores(), abs=1e-6)
    assert named.rerank(QUERY, named.index(DOCS)).scores() == pytest.approx(
        alone.rerank(QUERY, DOCS).scores(), abs=1e-6
    )
    assert named.spec.raw_space == "maxsim"


def test_a_published_name_refuses_other_folders(m3: Path, tmp_path: Path) -> None:
    """A folder without settings of late interaction says nothing about markers."""
    for folder in (m3, tiny_encoder(tmp_path / "encoder", "bert")):
        with pytest.raises(CheckpointError, match="takes its markers"):
            rerank_core.load("lateon", checkpoint=folder, device="cpu")
