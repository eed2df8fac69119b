"""Tiny checkpoints, built once a run: with tokenizers made in the test, and with the real ones where they are.

torch and transformers are imported inside the fixtures, so that reading this file costs nothing."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import rerank_core
from rerank_core import Reranker
from rerank_core.testing.checkpoints import Family, tiny_cross_encoder, tiny_encoder

if TYPE_CHECKING:
    from helpers.plain import PlainCrossEncoder

# Family, and the folder of a real tokenizer; None is the one that the builder makes.
CHECKPOINTS = [
    pytest.param(("xlm-roberta", None), id="xlm-roberta"),
    pytest.param(("bert", None), id="bert"),
    pytest.param(("xlm-roberta", "xlm-roberta"), id="real-xlm-roberta", marks=pytest.mark.data),
    pytest.param(("bert", "bert-base-uncased"), id="real-bert-uncased", marks=pytest.mark.data),
    pytest.param(("bert", "bert-base-chinese"), id="real-bert-chinese", marks=pytest.mark.data),
]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """One thread for torch: models this small gain nothing from two, and on a busy machine wait for each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Family], Path]:
    """The tiny cross-encoder of a family, not to be changed."""
    folder = tmp_path_factory.mktemp("made")
    return functools.cache(lambda family: tiny_cross_encoder(folder / family, family))


@pytest.fixture(scope="session")
def made_with(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Family, Path], Path]:
    """The tiny cross-encoder of a family with a real tokenizer, not to be changed."""
    folder = tmp_path_factory.mktemp("real")
    return functools.cache(
        lambda family, tokenizer: tiny_cross_encoder(folder / tokenizer.name, family, tokenizer=tokenizer)
    )


# pytest ends the fixtures of one checkpoint where those of the next begin, and each test file goes through all of
# them: what a checkpoint costs is kept from file to file.
@pytest.fixture(scope="session", params=CHECKPOINTS)
def checkpoint(
    request: pytest.FixtureRequest, made: Callable[[Family], Path], made_with: Callable[[Family, Path], Path]
) -> Path:
    """A tiny cross-encoder directory, once with each tokenizer."""
    family, real = request.param
    return made(family) if real is None else made_with(family, request.getfixturevalue("data") / "tokenizers" / real)


@functools.cache
def _loaded(checkpoint: Path) -> Reranker:
    return rerank_core.load(checkpoint, device="cpu")


@functools.cache
def _plain(checkpoint: Path) -> PlainCrossEncoder:
    from helpers.plain import PlainCrossEncoder

    return PlainCrossEncoder(checkpoint)


@pytest.fixture(scope="session")
def reranker(checkpoint: Path) -> Reranker:
    """The checkpoint as we load it."""
    return _loaded(checkpoint)


@pytest.fixture(scope="session")
def plain(checkpoint: Path) -> PlainCrossEncoder:
    """The checkpoint as plain Hugging Face loads it."""
    return _plain(checkpoint)


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny bare BERT: no score head."""
    return tiny_encoder(tmp_path_factory.mktemp("encoder") / "tiny")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny late-interaction model, not to be changed."""
    from helpers.models.late import saved

    return saved(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="session")
def tiny(folder: Path) -> Reranker:
    """That model, loaded."""
    return rerank_core.load(folder, device="cpu")


@pytest.fixture(scope="session")
def stored(tiny: Reranker, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of TEXTS in a folder, not to be changed."""
    from helpers.models.late import TEXTS

    made = tmp_path_factory.mktemp("stored") / "index"
    tiny.index(TEXTS, made)
    return made


@pytest.fixture
def kept(stored: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    return Path(shutil.copytree(stored, tmp_path / "kept"))
