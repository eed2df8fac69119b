"""The calling thread's settings of torch change no score, and a model loads and ranks under each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

import rerank_core
from rerank_core import Head, ModelSpec, Reranker, Template
from rerank_core.backends.torch.encoder.products import Prepared
from rerank_core.options import Options
from rerank_core.reranker import opened
from rerank_core.testing import tiny_causal_lm, tiny_cross_encoder, tiny_encoder, tiny_encoder_decoder

DOCUMENTS = [f"number {number} " * (1 + number % 5) for number in range(9)]
LABELS = {"template": Template(query="{query} ", doc="{doc}?"), "head": Head.last_token(positive="yes", negative="no")}


@contextmanager
def default_device(name: str) -> Iterator[None]:
    """As scripts for a GPU set it."""
    torch.set_default_device(name)
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """The process's dtype of new tensors."""
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


Setting = Callable[[], AbstractContextManager[Any]]
SETTINGS: dict[str, Setting] = {
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "float64": lambda: default_dtype(torch.float64),
    "inference": torch.inference_mode,
}
# Tensors of this device hold no numbers, as those of a GPU could not be mixed with the model's. transformers reads no
# weights under it.
ELSEWHERE: Setting = lambda: default_device("meta")  # noqa: E731 -- of the type above


@pytest.fixture(scope="module", params=["cross-encoder", "causal", "maxsim", "cosine", "encoder-decoder"])
def load(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str | None], Reranker]:
    """Loads the same model of each kind, by its dtype."""
    folder = tmp_path_factory.mktemp("settings")
    makers: dict[str, tuple[Callable[[Path], Path], dict[str, Any]]] = {
        "cross-encoder": (lambda path: tiny_cross_encoder(path, "bert"), {"head": Head.classifier()}),
        "causal": (lambda path: tiny_causal_lm(path, "qwen3"), LABELS),
        "maxsim": (lambda path: tiny_encoder(path, "bert"), {"template": Template.each(), "head": Head.maxsim("mean")}),
        "cosine": (lambda path: tiny_encoder(path, "bert"), {"template": Template.each(), "head": Head.cosine("cls")}),
        "encoder-decoder": (lambda path: tiny_encoder_decoder(path, "t5"), LABELS),
    }
    make, parts = makers[request.param]
    spec = ModelSpec(name="tiny", checkpoint=str(make(folder)), max_length=200, **parts)
    return lambda dtype: opened(spec, Options(device="cpu", dtype=dtype))


def scores(reranker: Reranker) -> list[float]:
    """Of many documents and of one, which are computed in different ways."""
    return [score for some in (DOCUMENTS, DOCUMENTS[:1]) for score in reranker.rerank("which one", some).scores()]


def ways(reranker: Reranker) -> tuple[Any, ...]:
    """How the scorer computes."""
    scorer: Any = reranker.scorer
    return scorer.packed, len(scorer.straightened), len(scorer.prepacked)


@pytest.mark.parametrize("dtype", [None, "int8", "bfloat16"])
def test_no_setting_changes_scores(load: Callable[[str | None], Reranker], dtype: str | None) -> None:
    """Set while the model is loaded, or while it ranks in the calling thread, whose settings workers do not have."""
    reranker = load(dtype)
    expected = scores(reranker)
    for name, setting in SETTINGS.items():
        with setting():
            other = load(dtype)
            assert scores(reranker) == expected, name
        assert ways(other) == ways(reranker), name
        assert scores(other) == expected, name
    with ELSEWHERE():
        assert scores(reranker) == expected


def test_settings_are_left_as_they_were(load: Callable[[str | None], Reranker]) -> None:
    """Grad mode, autocast, number of threads."""
    torch.set_grad_enabled(True)
    with torch.autocast("cpu", torch.bfloat16):
        scores(load(None))
        assert torch.is_autocast_enabled("cpu")
    assert not torch.is_autocast_enabled("cpu")
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
    assert torch.get_num_threads() == 1


def test_autocast_of_a_module_in_memory_is_the_callers(tmp_path: Path) -> None:
    """Whoever gives a live module may compute it in half precision."""
    import transformers

    folder = tiny_cross_encoder(tmp_path, "bert")
    module = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    spec = ModelSpec(name="live", head=Head.classifier())
    reranker = Reranker.from_scorer(rerank_core.backends.torch.scorer_of(module, tokenizer, spec), spec)
    exact = scores(reranker)
    with torch.autocast("cpu", torch.bfloat16):
        cast = scores(reranker)
    assert exact != cast
    assert exact == pytest.approx(cast, abs=0.3)


def test_inexact_products_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where oneDNN's GELU differs from torch's, layers compute with torch's own products."""
    folder = tiny_cross_encoder(tmp_path, "bert")
    expected = scores(rerank_core.load(folder, device="cpu"))
    plain = Prepared.gelu
    monkeypatch.setattr(Prepared, "gelu", lambda self, x: plain(self, x) * 1.5)
    reranker = rerank_core.load(folder, device="cpu")

    assert scores(reranker) == pytest.approx(expected, abs=1e-5)
    assert ways(reranker) == (True, 2, 0)
