"""The specs of monoT5 and RankT5 score T5 checkpoints as their authors' code does."""

from __future__ import annotations

from pathlib import Path

import pytest

import rerank_core
from helpers.plain import DOCUMENTS, QUERIES, PlainEncoderDecoder, assert_close
from rerank_core import CheckpointError, ModelSpec, Reranker
from rerank_core.testing import ScorerConformance, tiny_encoder_decoder

PAIRS = [(QUERIES[0], text) for text in DOCUMENTS]


def spec_of(name: str) -> ModelSpec:
    return next(spec for spec in rerank_core.models() if spec.name == name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny T5 in the files that castorini publishes: pickled weights, without safetensors."""
    return tiny_encoder_decoder(tmp_path_factory.mktemp("t5"), pickled=True)


class TestMonoT5(ScorerConformance):
    """The conformance suite over a tiny random T5."""

    @pytest.fixture(scope="class")
    @classmethod
    def reranker(cls, folder: Path) -> Reranker:
        return rerank_core.load("monot5-base", checkpoint=folder, device="cpu", max_length=64)


def test_monot5_is_the_log_odds_of_true_and_false(folder: Path) -> None:
    """pygaggle shows the logarithm of the sigmoid of this number, in the same order."""
    plain = PlainEncoderDecoder(folder)
    expected = [plain.score(f"Query: {query} Document: {text} Relevant:", "true", "false") for query, text in PAIRS]
    assert_close(expected, rerank_core.load("monot5-base", checkpoint=folder, device="cpu").score(PAIRS))


def test_rankt5_is_one_logit(folder: Path) -> None:
    """That of ``<extra_id_10>``, after a prompt without a word at its end. The tiny vocabulary has it at another id, so
    the published one is refused there."""
    with pytest.raises(CheckpointError, match="token id 32089"):
        rerank_core.load("rankt5", checkpoint=folder, device="cpu")
    spec = spec_of("rankt5-base")
    assert (spec.template.doc, spec.template.after, spec.head and spec.head.negative) == (
        "Document: {doc}", ("</s>",), None,
    )  # fmt: skip


def test_mt5_takes_yes_and_no(tmp_path: Path) -> None:
    """mT5 has an output layer of its own, and does not scale its hidden states."""
    folder = tiny_encoder_decoder(tmp_path, "mt5", pickled=True)
    plain = PlainEncoderDecoder(folder)
    expected = [plain.score(f"Query: {query} Document: {text} Relevant:", "yes", "no") for query, text in PAIRS]
    assert_close(expected, rerank_core.load("mt5-base-mmarco-v2", checkpoint=folder, device="cpu").score(PAIRS))


def test_the_advice_about_a_t5_folder_works(folder: Path, tmp_path: Path) -> None:
    """Its message names both ways to load it, and both do."""
    with pytest.raises(CheckpointError, match="encoder-decoder") as caught:
        rerank_core.load(folder, device="cpu")
    said = str(caught.value)
    for name in ("monot5-base", "rankt5-base"):
        assert f"load({name!r}, checkpoint=<this directory>)" in said
    expected = rerank_core.load("monot5-base", checkpoint=folder, device="cpu").score(PAIRS)
    other = tiny_encoder_decoder(tmp_path)
    (other / "reranker.json").write_text(said[said.index("{") :], encoding="utf-8")
    assert_close(expected, rerank_core.load(other, device="cpu").score(PAIRS))


def test_specs_hold_the_published_facts() -> None:
    """Labels and prompt of pygaggle, 512 tokens, hub ids as aliases; weights that are pickled."""
    specs = [spec for spec in rerank_core.models() if spec.checkpoint.startswith(("castorini/", "Soyoung97/"))]
    assert {"monot5-base", "monot5-3b", "rankt5-base"} < {spec.name for spec in specs}
    assert {(spec.max_length, spec.pickled, spec.license) for spec in specs} == {(512, True, "not stated")}
    assert spec_of("monot5-base").names == ("monot5-base", "castorini/monot5-base-msmarco")
