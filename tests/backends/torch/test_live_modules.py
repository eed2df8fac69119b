"""Modules that are there already, and files that are not where they should be."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import rerank_core
from rerank_core import CheckpointError, Head, InputError, ModelSpec, Reranker, Template, write_spec
from rerank_core.backends.torch import scorer_of
from rerank_core.testing import fake_spec, tiny_cross_encoder, tiny_encoder

PAIRS = [("what is a panda?", "a bear"), ("what is a panda?", "竹子")]


def live(directory: Path, kind: str = "ForSequenceClassification") -> tuple[Any, Any]:
    """A transformers module and tokenizer of a checkpoint."""
    import transformers

    module = getattr(transformers, f"AutoModel{kind}").from_pretrained(directory)
    return module, transformers.AutoTokenizer.from_pretrained(directory)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny cross-encoder."""
    return tiny_cross_encoder(tmp_path_factory.mktemp("live"), "xlm-roberta")


def test_module_in_training_is_scored_without_dropout(directory: Path) -> None:
    """A trainer's module scores as its checkpoint does, and is still in training afterwards."""
    module, tokenizer = live(directory)
    module.train()
    scores = Reranker.from_scorer(scorer_of(module, tokenizer, fake_spec()), fake_spec()).score(PAIRS)

    assert scores == pytest.approx(rerank_core.load(directory, device="cpu").score(PAIRS), abs=1e-5)
    assert module.training
    assert all(part.training for part in module.modules())


def test_closing_one_view_leaves_the_other(directory: Path) -> None:
    """Two rerankers around one scorer are closed apart."""
    first = rerank_core.load(directory, device="cpu")
    with Reranker.from_scorer(first.scorer, first.spec, longdoc="firstp") as second:
        expected = second.score(PAIRS)
    assert first.score(PAIRS) == expected


def test_modules_that_are_no_rerankers_are_refused(tmp_path: Path) -> None:
    """A bare encoder and a three-label classifier are CheckpointErrors, not column 0 of something."""
    for folder, kind in (
        (tiny_encoder(tmp_path / "bare", "bert"), ""),
        (tiny_cross_encoder(tmp_path / "three", "bert", labels=3), "ForSequenceClassification"),
    ):
        with pytest.raises(CheckpointError, match="labels"):
            scorer_of(*live(folder, kind), fake_spec())


def test_special_tokens_in_a_piece_are_refused(directory: Path) -> None:
    """A template that spells a special token where it would be read as text fails when the model is built."""
    with pytest.raises(InputError, match="</s>"):
        scorer_of(*live(directory), fake_spec(template=Template.pair(query="{query}</s>")))


def test_folder_named_like_a_hub_id_does_not_replace_it(
    tmp_path: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A named model's pinned files come from the hub, whatever lies in the current directory."""
    shutil.copytree(directory, tmp_path / "BAAI" / "bge-reranker-base")
    monkeypatch.chdir(tmp_path)
    for options in ({}, {"revision": "main"}):
        with pytest.raises(CheckpointError, match="cache"):
            rerank_core.load("bge-reranker-base", offline=True, **options)
    assert rerank_core.load("./BAAI/bge-reranker-base", device="cpu").score(PAIRS)


def test_folder_loads_from_any_working_directory_later(
    tmp_path: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model loaded by a relative path remembers the absolute one, as a pickle in another process needs it."""
    monkeypatch.chdir(directory.parent)
    loaded = rerank_core.load(directory.name, device="cpu")
    assert Path(loaded.spec.checkpoint).is_absolute()


def test_revision_of_what_has_none_is_refused(directory: Path) -> None:
    """`revision=` for a folder or a packaged model could only be ignored, so it is an InputError."""
    for name in (directory, "mini"):
        with pytest.raises(InputError, match="revision"):
            rerank_core.load(name, revision="main")


def test_foreign_base_contradicts_a_named_model(tmp_path: Path, directory: Path) -> None:
    """A folder whose file says that another model's code scores it is refused under `checkpoint=`."""
    shutil.copytree(directory, tmp_path / "tuned")
    spec = ModelSpec(name="tuned", head=Head.classifier())
    write_spec(spec, tmp_path / "tuned", base="acme:acme-small")
    with pytest.raises(CheckpointError, match="base"):
        rerank_core.load("bge-reranker-base", checkpoint=tmp_path / "tuned")
    write_spec(spec, tmp_path / "tuned", base="bge:bge-reranker-base")
    rerank_core.load("bge-reranker-base", checkpoint=tmp_path / "tuned", device="cpu")
