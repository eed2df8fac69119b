"""Loading keeps to what was asked (dtype, files, no network) and leaves the process as it was."""

from __future__ import annotations

import logging
import random
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import huggingface_hub.utils as hub
import pytest
import torch
import transformers.utils.logging as transformers_logging
from transformers import AutoModelForSequenceClassification

import rerank_core
from helpers.plain import DOCUMENTS, LONG, QUERIES, PlainCrossEncoder, PlainLateInteraction, assert_close
from helpers.plugin_factory import install
from rerank_core import (
    CheckpointError,
    Head,
    InputError,
    MissingDependencyError,
    ModelSpec,
    Reranker,
    Template,
    UnknownModelError,
    write_spec,
)
from rerank_core.plugins import registry
from rerank_core.testing.checkpoints import Family, tiny_cross_encoder

ACME = """
    from rerank_core import Head, ModelSpec, hookimpl

    @hookimpl
    def rerank_register_models(register):
        here = "package:acme_weights/model"
        register(ModelSpec(name="acme-small", checkpoint=here, head=Head.classifier(), max_length=64))
"""


def parameters(reranker: Reranker) -> set[torch.dtype]:
    """The dtypes of a reranker's weights."""
    scorer: Any = reranker.scorer
    return {weight.dtype for weight in scorer.module.parameters()}


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A plugin with a model whose weights are in a package that a test may put into this folder."""
    module = install(tmp_path, "acme", ACME)
    monkeypatch.syspath_prepend(tmp_path)
    registry.default.cache_clear()
    yield tmp_path
    registry.default.cache_clear()
    sys.modules.pop(module, None)


@pytest.fixture
def no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """An empty hub cache, and the addresses that anything tried to reach."""
    tried: list[object] = []

    def refuse(_: object, address: object) -> None:
        tried.append(address)
        raise ConnectionRefusedError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *_, **__: refuse(None, host))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tried


@pytest.mark.parametrize("dtype", ["bfloat16", torch.bfloat16])
def test_a_dtype_is_a_name_or_torchs_own(dtype: object, made: Callable[[Family], Path]) -> None:
    """Both ways of asking for bfloat16 give bfloat16 weights and finite float scores near those of float32."""
    reranker = rerank_core.load(made("bert"), device="cpu", dtype=dtype)
    scores = reranker.rerank(QUERIES[0], DOCUMENTS).scores()
    exact = rerank_core.load(made("bert"), device="cpu").rerank(QUERIES[0], DOCUMENTS).scores()

    assert {torch.bfloat16} == parameters(reranker)
    assert max(abs(a - b) for a, b in zip(scores, exact, strict=True)) < 0.2


def test_float32_is_the_default_whatever_was_saved(tmp_path: Path) -> None:
    """A checkpoint saved in bfloat16 is computed in float32 unless asked otherwise."""
    directory = tiny_cross_encoder(tmp_path / "half", "bert")
    model: Any = AutoModelForSequenceClassification.from_pretrained(str(directory), dtype=torch.bfloat16)
    model.save_pretrained(str(directory))

    assert {torch.float32} == parameters(rerank_core.load(directory, device="cpu"))


@pytest.mark.parametrize("bars", [True, False])
@pytest.mark.parametrize("hub_bars", [True, False])
@pytest.mark.parametrize("level", [logging.WARNING, logging.INFO])
def test_loading_is_silent_and_restores_what_it_silenced(
    bars: bool, hub_bars: bool, level: int, made: Callable[[Family], Path], capfd: pytest.CaptureFixture[str]
) -> None:
    """Nothing on stdout or stderr; transformers' level and both libraries' progress bars are as they were."""
    logger = logging.getLogger("transformers")
    before = logger.level, transformers_logging.is_progress_bar_enabled(), hub.are_progress_bars_disabled()
    try:
        logger.setLevel(level)
        (transformers_logging.enable_progress_bar if bars else transformers_logging.disable_progress_bar)()
        (hub.enable_progress_bars if hub_bars else hub.disable_progress_bars)()
        capfd.readouterr()
        rerank_core.load(made("xlm-roberta"), device="cpu").rerank(QUERIES[0], DOCUMENTS)

        assert capfd.readouterr() == ("", "")
        assert level == logger.level
        assert bars == transformers_logging.is_progress_bar_enabled()
        assert hub_bars == (not hub.are_progress_bars_disabled())
    finally:
        logger.setLevel(before[0])
        (transformers_logging.enable_progress_bar if before[1] else transformers_logging.disable_progress_bar)()
        (hub.disable_progress_bars if before[2] else hub.enable_progress_bars)()


def test_loads_at_the_same_time_restore_it_too(made: Callable[[Family], Path]) -> None:
    """Models loaded by several threads at once have their own dtypes, and no thread undoes another's restoring."""
    logger = logging.getLogger("transformers")
    before = logger.level, transformers_logging.is_progress_bar_enabled(), torch.get_default_dtype()
    dtypes = [torch.float32, torch.bfloat16] * 8
    with ThreadPoolExecutor(4) as pool:
        loaded = list(pool.map(lambda dtype: rerank_core.load(made("bert"), device="cpu", dtype=dtype), dtypes))

    assert [{dtype} for dtype in dtypes] == [parameters(reranker) for reranker in loaded]
    assert before == (logger.level, transformers_logging.is_progress_bar_enabled(), torch.get_default_dtype())


def test_seeds_threads_and_modes_are_untouched(made: Callable[[Family], Path], tmp_path: Path) -> None:
    """Building, loading and ranking change no random state, thread count, default dtype or gradient mode."""

    def state() -> list[object]:
        return [
            torch.get_rng_state().tolist(),
            random.getstate(),
            torch.get_num_threads(),
            torch.get_num_interop_threads(),
            torch.get_default_dtype(),
            torch.is_grad_enabled(),
            torch.are_deterministic_algorithms_enabled(),
        ]

    before = state()
    tiny_cross_encoder(tmp_path / "built")
    rerank_core.load(made("bert"), device="cpu").rerank(QUERIES[0], [LONG, "a bear"])

    assert before == state()


def test_a_named_model_takes_other_weights(acme: Path, made: Callable[[Family], Path]) -> None:
    """`load(name, checkpoint=...)` scores with the directory's weights under the name's limits."""
    reranker = rerank_core.load("acme-small", checkpoint=made("bert"), device="cpu")
    plain = PlainCrossEncoder(made("bert"))

    assert reranker.spec.name == "acme-small"
    assert_close([max(plain.window_scores(QUERIES[0], LONG, 64))], reranker.rerank(QUERIES[0], [LONG]).scores())


def test_weights_that_contradict_the_name_list_the_fields(
    acme: Path, made: Callable[[Family], Path], tmp_path: Path
) -> None:
    """A reranker.json that says otherwise is refused with each field and both values; one that agrees loads."""
    directory = Path(shutil.copytree(made("bert"), tmp_path / "weights"))
    spec = registry.default().resolve("acme-small")
    write_spec(spec, directory)
    assert rerank_core.load("acme-small", checkpoint=directory, device="cpu").rerank("panda", ["bear"])
    write_spec(ModelSpec(name="other", head=spec.head, max_length=128, activation="sigmoid"), directory)

    with pytest.raises(
        CheckpointError, match=r"max_length: 64 here, 128 there; activation: 'none' here, 'sigmoid' there"
    ):
        rerank_core.load("acme-small", checkpoint=directory, device="cpu")
    assert rerank_core.load(directory, device="cpu").rerank("panda", ["bear"]).activation == "sigmoid"


def test_a_directory_with_a_reranker_json_says_how_it_scores(encoder: Path, tmp_path: Path) -> None:
    """A bare encoder with a reranker.json for MaxSim loads by its path and scores so."""
    directory = Path(shutil.copytree(encoder, tmp_path / "colbert"))
    write_spec(ModelSpec(name="tiny", template=Template.each(), head=Head.maxsim("mean"), max_length=40), directory)
    windows = PlainLateInteraction(directory).window_scores(QUERIES[0], LONG, 40, "mean")
    (hit,) = rerank_core.load(directory, device="cpu").rerank(QUERIES[0], [LONG])

    assert_close(windows, [passage.score for passage in hit.passages])


def test_weights_inside_a_package_are_found_or_named(acme: Path, made: Callable[[Family], Path]) -> None:
    """`package:` weights are a MissingDependencyError with the install line until the package is there."""
    with pytest.raises(MissingDependencyError, match="pip install acme-weights"):
        rerank_core.load("acme-small", device="cpu")
    (acme / "acme_weights").mkdir()
    (acme / "acme_weights" / "__init__.py").write_text("raise ImportError('only its files are wanted')", "utf-8")
    shutil.copytree(made("bert"), acme / "acme_weights" / "model")

    assert rerank_core.load("acme-small", device="cpu").rerank("panda", ["bear"])


def test_a_hub_id_that_is_not_cached_fails_offline_at_once(no_network: list[object]) -> None:
    """`offline=True` asks nobody: a hub id outside the cache is an UnknownModelError without a connection."""
    with pytest.raises(UnknownModelError, match=r"offline=True"):
        rerank_core.load("nobody/nothing", offline=True)
    assert no_network == []


def test_a_hub_that_cannot_be_reached_is_an_unknown_model(
    no_network: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without `offline`, a network that fails is an UnknownModelError that says so."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")

    with pytest.raises(UnknownModelError, match=r"cannot be downloaded from http://127\.0\.0\.1:9"):
        rerank_core.load("nobody/nothing")
    assert no_network


def test_a_cached_hub_id_loads_offline(
    no_network: list[object], made: Callable[[Family], Path], tmp_path: Path
) -> None:
    """What the hub's cache holds loads by its id, and ranks like the directory."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    home = tmp_path / "hub" / "models--acme--tiny"
    shutil.copytree(made("bert"), home / "snapshots" / commit)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(commit, encoding="utf-8")
    expected = rerank_core.load(made("bert"), device="cpu").rerank(QUERIES[0], DOCUMENTS).scores()
    by_id = rerank_core.load("acme/tiny", offline=True, device="cpu")
    by_commit = rerank_core.load("acme/tiny", offline=True, revision=commit, device="cpu")

    assert by_id.spec.checkpoint == "acme/tiny"
    assert expected == by_id.rerank(QUERIES[0], DOCUMENTS).scores()
    assert expected == by_commit.rerank(QUERIES[0], DOCUMENTS).scores()
    assert no_network == []


@pytest.mark.parametrize("family", ["xlm-roberta", "bert"])
def test_max_query_length_cuts_and_says_so(family: Family, made: Callable[[Family], Path]) -> None:
    """A longer query is cut to its first tokens, which the ranking reports; a shorter one is not touched."""
    query, shown = "what is a panda bear of the mountains", "what is a"
    plain = PlainCrossEncoder(made(family))
    reranker = rerank_core.load(made(family), device="cpu", max_query_length=3)
    cut, whole = reranker.rerank_many([(query, DOCUMENTS), (shown, DOCUMENTS)])

    assert plain.ids(query)[:3] == plain.ids(shown)
    assert [cut.query_truncated, whole.query_truncated] == [True, False]
    assert_close([plain.score(shown, document) for document in DOCUMENTS], cut.scores())
    assert_close(whole.scores(), cut.scores())


@pytest.mark.parametrize("device", ["meta", "cpu:7", 99, "vulkan", "hpu", "CPU", "\0", "x" * 5000])
def test_a_device_that_is_not_there_is_an_input_error(made: Callable[[Family], Path], device: object) -> None:
    """A device that cannot hold and compute numbers is refused by name, before weights are read."""
    with pytest.raises(InputError, match=r"device .* cannot be used here"):
        rerank_core.load(made("bert"), device=device)
