"""The last layer of a classifier in training computes first tokens alone: exact, and the module stays its owner's."""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import Any

import pytest
import torch

import rerank_core
from helpers.models.encoder_folders import encoder_folder
from helpers.plain import assert_close
from helpers.training import DOCS, QUERIES, apart, batch_of, gradients, live, scores_of
from rerank_core.testing import fake_spec, tiny_cross_encoder


def opened(directory: Path, family: Any = "bert", **settings: Any) -> tuple[Any, Any]:
    return live(checkpoint(directory / "model", family), fake_spec(), **settings)


def checkpoint(directory: Path, family: Any, **settings: Any) -> Path:
    """A tiny cross-encoder; ModernBERT's last of three layers has global attention."""
    if family in ("bert", "xlm-roberta"):
        return tiny_cross_encoder(directory, family, std=0.1)
    return encoder_folder(directory, family, "AutoModelForSequenceClassification", std=0.1, num_labels=1, **settings)


def last_layer(module: Any) -> Any:
    base = module.base_model
    return (base.encoder.layer if hasattr(base, "encoder") else base.layers)[-1]


def computed(module: Any, scorer: Any, *, packed: bool) -> int:
    """Tokens that the last layer's feed-forward block sees."""
    seen = []
    layer = last_layer(module)
    block = layer.intermediate if hasattr(layer, "intermediate") else layer.mlp
    handle = block.register_forward_hook(lambda _, given, __: seen.append(given[0].shape[:-1].numel()))
    module(**scorer.forward_inputs(batch_of(scorer), packed=packed))
    handle.remove()
    return sum(seen)


@pytest.mark.parametrize("family", ["bert", "xlm-roberta", "modernbert", "gte"])
def test_only_first_tokens_pass_the_last_layer(tmp_path: Path, family: Any) -> None:
    """One token a row where rows are packed, all of them where they are padded."""
    module, scorer = opened(tmp_path, family)
    rows = batch_of(scorer).rows

    assert computed(module, scorer, packed=True) == len(rows)
    assert computed(module, scorer, packed=False) == len(rows) * max(len(row.ids) for row in rows)


@pytest.mark.parametrize("family", ["modernbert", "gte"])
def test_loaded_and_live_layers_give_the_scores_of_padded_rows(tmp_path: Path, family: str) -> None:
    """Layers of a loaded model are replaced, those of a caller's stay; rows of several lengths have equal scores."""
    directory = checkpoint(tmp_path / "model", family)
    loaded = rerank_core.load(str(directory), device="cpu", max_length=64)
    documents = [*DOCS, "Pandas eat bamboo, birds and eggs, and sleep. " * 9]
    packed = loaded.rerank(QUERIES[0], documents).scores()
    loaded.scorer.packed = False
    _, scorer = live(directory, fake_spec())
    kept = rerank_core.Reranker.from_scorer(scorer, fake_spec()).rerank(QUERIES[0], documents).scores()

    assert type(last_layer(loaded.scorer.module)).__name__ == "FirstTokenLayer"
    assert type(last_layer(scorer.module)).__name__ != "FirstTokenLayer"
    assert_close(loaded.rerank(QUERIES[0], documents).scores(), packed)
    assert_close(packed, kept)


@pytest.mark.parametrize("settings", [{"num_hidden_layers": 4}, {"classifier_pooling": "mean"}])
def test_a_layer_that_is_read_otherwise_is_computed_whole(tmp_path: Path, settings: Any) -> None:
    """A ModernBERT whose last layer has local attention, and one whose head reads the mean of all tokens."""
    module, scorer = live(checkpoint(tmp_path / "model", "modernbert", **settings), fake_spec())

    assert scorer.packed
    assert computed(module, scorer, packed=True) == sum(len(row.ids) for row in batch_of(scorer).rows)


@pytest.mark.parametrize("family", ["bert", "modernbert", "gte"])
def test_recomputed_layers_have_the_same_gradient(tmp_path: Path, family: str) -> None:
    """With gradient checkpointing, packed rows have the gradient of padded ones."""
    none = {} if family == "modernbert" else {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    module, scorer = opened(tmp_path, family, **none)
    expected, slow = gradients(module.train(), scorer, packed=False)
    module.activation_checkpointing_enable()
    scores, fast = gradients(module, scorer, packed=True)

    assert scores == pytest.approx(expected, abs=1e-5)
    assert apart(fast, slow) < 1e-5


@pytest.mark.parametrize("family", ["bert", "gte"])
def test_recomputed_layers_draw_the_same_dropout(tmp_path: Path, family: str) -> None:
    """Gradient checkpointing changes no gradient of packed rows in training, dropout included."""
    module, scorer = opened(tmp_path, family)
    module.train()
    torch.manual_seed(3)
    expected, plain = gradients(module, scorer, packed=True)
    module.activation_checkpointing_enable()
    torch.manual_seed(3)
    scores, again = gradients(module, scorer, packed=True)

    assert scores == pytest.approx(expected, abs=1e-6)
    assert apart(again, plain) < 1e-6


def test_attention_dropout_reaches_the_last_layer(tmp_path: Path) -> None:
    """A model of one layer varies with the dropout of its attention as it does on padded rows."""
    directory = tiny_cross_encoder(tmp_path / "model", "bert", layers=1, std=0.1)
    settings = {"attention_probs_dropout_prob": 0.3, "hidden_dropout_prob": 0.0, "classifier_dropout": 0.0}
    module, scorer = live(directory, fake_spec(), **settings)
    module.train()
    torch.manual_seed(0)
    draws = {
        packed: torch.stack([scores_of(module, scorer, batch_of(scorer), packed=packed).detach() for _ in range(100)])
        for packed in (True, False)
    }

    assert draws[True].std(0) == pytest.approx(draws[False].std(0), rel=0.35)


def test_a_copy_is_a_module_of_its_own(tmp_path: Path) -> None:
    """A deep copy and a pickled one compute with their own weights: publishing merges adapters into such a copy."""
    module, scorer = opened(tmp_path)
    module.eval()
    asked = scorer.forward_inputs(batch_of(scorer), packed=True)
    before = module(**asked).logits.detach()
    twin = copy.deepcopy(module)
    buffer = io.BytesIO()
    torch.save(module.base_model.encoder.layer[-1], buffer)
    buffer.seek(0)
    layer = torch.load(buffer, weights_only=False)
    with torch.no_grad():
        for copied in (twin.base_model.encoder.layer[-1], layer):
            copied.output.dense.weight.mul_(2)

    assert torch.equal(module(**asked).logits, before)
    assert not torch.allclose(twin(**asked).logits, before, atol=1e-3)
    hidden = torch.randn(1, 5, module.config.hidden_size)
    own = module.base_model.encoder.layer[-1]
    assert not torch.allclose(layer(hidden), own(hidden), atol=1e-3)
