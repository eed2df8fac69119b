"""Training through the seam: packed rows have the gradients of padded ones, and a live module stays as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.training import YES_NO, apart, batch_of, gradients, live, scores_of
from rerank_core.backends.torch.trainable import Trainable
from rerank_core.testing import fake_spec, tiny_cross_encoder
from rerank_core.testing.decoders import tiny_causal_lm


@pytest.mark.parametrize("family", ["bert", "xlm-roberta"])
def test_packed_classifiers_have_the_padded_gradient(tmp_path: Path, family: Any) -> None:
    """Every weight's gradient is that of padded rows, to float32 rounding."""
    module, scorer = live(tiny_cross_encoder(tmp_path / "model", family), fake_spec())
    module.eval()
    assert isinstance(scorer, Trainable)
    assert scorer.packed
    expected, slow = gradients(module, scorer, packed=False)
    scores, fast = gradients(module, scorer, packed=True)

    assert scores == pytest.approx(expected, abs=1e-5)
    assert apart(fast, slow) < 1e-5


@pytest.mark.parametrize("kind", ["llama", "gemma2", "qwen3", "mistral"])
def test_packed_causal_models_have_the_padded_gradient(tmp_path: Path, kind: Any) -> None:
    """Prefixes that rows share, windows and caps included: the gradient through a shared prefix is the sum of those
    through copies of it."""
    module, scorer = live(tiny_causal_lm(tmp_path / "model", kind), YES_NO)
    module.eval()
    assert scorer.packed
    expected, slow = gradients(module, scorer, packed=False)
    scores, fast = gradients(module, scorer, packed=True)

    assert scores == pytest.approx(expected, abs=1e-5)
    assert apart(fast, slow) < 1e-5


def test_attention_dropout_is_kept_on_packed_rows(tmp_path: Path) -> None:
    """In training, scores vary with the attention's dropout, as those of padded rows do; in evaluation they do not."""
    settings = {"attention_probs_dropout_prob": 0.3, "hidden_dropout_prob": 0.0, "classifier_dropout": 0.0}
    module, scorer = live(tiny_cross_encoder(tmp_path / "model", "bert", std=0.1), fake_spec(), **settings)
    batch = batch_of(scorer)

    def scores(packed: bool) -> torch.Tensor:
        return scores_of(module, scorer, batch, packed=packed).detach()

    module.eval()
    plain = scores(True)
    assert torch.equal(plain, scores(True))
    module.train()
    torch.manual_seed(0)
    draws = {packed: torch.stack([scores(packed) for _ in range(100)]) for packed in (True, False)}
    assert draws[True].std(0).min() > 0
    assert draws[True].std(0) == pytest.approx(draws[False].std(0), rel=0.35)
    assert draws[True].mean(0) == pytest.approx(draws[False].mean(0), abs=0.35 * float(draws[False].std()))


def test_a_live_module_is_left_as_it_is(tmp_path: Path) -> None:
    """Its scorer replaces no layer and takes no weight away: what training moves is what is scored."""
    module, scorer = live(tiny_cross_encoder(tmp_path / "model", "bert"), fake_spec())
    kinds = [type(part) for part in module.modules()]
    names = [name for name, _ in module.named_parameters()]
    before = scorer.forward(batch_of(scorer)).scores["score"]
    with torch.no_grad():
        module.classifier.bias += 1

    assert [type(part) for part in module.modules()] == kinds
    assert [name for name, _ in module.named_parameters()] == names
    assert scorer.forward(batch_of(scorer)).scores["score"] == pytest.approx([score + 1 for score in before], abs=1e-5)
