"""Models with a score at every layer: the loss, gradients, and folders that serve every layer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.llms import (
    ADAM,
    DOCS,
    LAYERWISE,
    OWN,
    QUERY,
    Make,
    Prepared,
    alike,
    by_layer,
    gradients,
    losses,
    maker,
    near,
)
from helpers.steps import on_groups
from torch.nn import functional

import rerank_core
from rerank_core import InputError
from rerank_core.records.training_row import TrainingRow
from rerank_trainers.loop.prepare import live_reranker
from rerank_trainers.objectives.layerwise import Layerwise
from rerank_trainers.objectives.listwise import SoftmaxCE
from rerank_trainers.objectives.pointwise import BCE


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """A tiny causal model of four layers, of a family, made once."""
    return maker(tmp_path_factory.mktemp, layers=4)


# ---------------------------------------------------------------------- the loss
def test_loss_is_the_mean_over_layers_and_what_the_last_one_teaches() -> None:
    """FlagEmbedding's two sums, divided by the layers, against torch; no gradient flows into the teacher."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(3, 4, 3, generator=generator).requires_grad_()
    labels = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]])
    mask = torch.ones(3, 4, dtype=torch.bool)
    mask[1, 3] = False

    found = on_groups(Layerwise(SoftmaxCE(), 0.5), scores, labels, None, mask)
    for row in range(3):
        own = scores[row, mask[row]]
        place = int(labels[row].argmax())
        plain = torch.stack([-own[:, layer].log_softmax(0)[place] for layer in range(3)]).mean()
        last = own[:, 2].detach().log_softmax(0)
        taught = [functional.kl_div(own[:, n].log_softmax(0), last, log_target=True, reduction="sum") for n in (0, 1)]
        expected = plain + 0.5 * (taught[0] + taught[1]) / 3
        assert found[row].item() == pytest.approx(expected.item(), abs=1e-6)
    # The last layer's gradient is that of its own loss alone.
    (gradient,) = torch.autograd.grad(found.sum(), scores)
    (alone,) = torch.autograd.grad(SoftmaxCE()(scores[..., 2], labels, None, mask).sum() / 3, scores)
    assert torch.allclose(gradient[..., 2], alone[..., 2], atol=1e-7)


def test_weight_of_the_lesson() -> None:
    """Without self-distillation it is the plain mean, with one layer nothing is taught, and a negative weight fails."""
    scores, mask = torch.randn(2, 3, 2), torch.ones(2, 3, dtype=torch.bool)
    labels = torch.tensor([[1.0, 0, 0], [0, 1, 1]])
    plain = torch.stack([BCE()(scores[..., layer], labels, None, mask) for layer in range(2)]).mean(0)
    assert torch.allclose(on_groups(Layerwise(BCE(), 0.0), scores, labels, None, mask), plain)
    first = scores[..., :1]
    assert torch.allclose(
        on_groups(Layerwise(BCE()), first, labels, None, mask), BCE()(first[..., 0], labels, None, mask)
    )
    assert (Layerwise(BCE()).shift_invariant, Layerwise(BCE()).needs) == (BCE().shift_invariant, BCE().needs)
    with pytest.raises(InputError, match="self_distill"):
        Layerwise(BCE(), -1.0)


# ---------------------------------------------------------------------- training
@pytest.mark.parametrize("family", ["qwen3", "llama", "gemma2", "granite"])
def test_trained_folder_serves_the_live_scores_of_every_layer(
    family: str, prepared: Prepared, make: Make, tmp_path: Path, rows: Callable[..., list[TrainingRow]]
) -> None:
    """Training lowers the loss; the saved folder loads with rerank-core alone, at each layer and in a cascade."""
    run = prepared(*LAYERWISE, *OWN, *ADAM, f"model.checkpoint={make(family)}", rows=rows(4))
    run.train()
    assert losses(run)[-1] < 0.7 * losses(run)[0]

    live = by_layer(live_reranker(run.model))
    assert list(live) == ["layer_4", "layer_2", "layer_3"]
    folder = tmp_path / "saved"
    run.trainer.save_model(str(folder))
    assert json.loads((folder / "reranker.json").read_text())["base"] is None
    for layer in (2, 3, 4) if family == "qwen3" else (2,):
        near(live[f"layer_{layer}"], by_layer(rerank_core.load(folder, device="cpu", layer=layer))["score"])
    served = rerank_core.load(folder, device="cpu")
    near(live["layer_4"], served.rerank(QUERY, DOCS).scores())
    best = max(range(len(DOCS)), key=live["layer_2"].__getitem__)
    (hit,) = served.rerank(QUERY, DOCS, cascade={2: 1}, top_k=1)
    assert hit.index == best
    near([live["layer_4"][best]], [hit.score])


@pytest.mark.parametrize("family", ["qwen3", "gemma2"])
def test_scores_and_gradient_are_those_of_plain_hugging_face(
    family: str, prepared: Prepared, make: Make, rows: Callable[..., list[TrainingRow]]
) -> None:
    """Each layer's score is its head on the normed hidden state of the last token; the gradient is autograd's."""
    from transformers import AutoModel, AutoTokenizer

    data = rows(3)
    run = prepared(*LAYERWISE, *OWN, f"model.checkpoint={make(family)}", rows=data)
    found = gradients(run)

    auto: Any = AutoModel
    plain = auto.from_pretrained(str(make(family)), dtype=torch.float32, attn_implementation="eager").train()
    states: list[torch.Tensor] = []
    for layer in plain.layers[1:]:
        layer.register_forward_hook(lambda _, __, out: states.append(out[0] if isinstance(out, tuple) else out))
    tokenizer: Any = AutoTokenizer.from_pretrained(str(make(family)))
    heads = [head.linear_head.weight.detach().clone().requires_grad_() for head in run.model.module.lm_head]
    for row in data:
        scores = []
        for doc in row.docs:
            texts = (f"A: {row.query}", "\n", f"B: {doc}", "\n", "Yes or No?")
            ids = [token for text in texts for token in tokenizer(text, add_special_tokens=False)["input_ids"]]
            states.clear()
            plain(input_ids=torch.tensor([[*([2] if family == "gemma2" else []), *ids]]))
            own = torch.stack([(plain.norm(h[:, -1]) @ w.T)[0, 0] for h, w in zip(states, heads, strict=True)])
            scores.append(torch.tanh(own / 5) * 5 if family == "gemma2" else own)
        laid = torch.stack(scores)[None]
        labels, mask = torch.tensor([row.labels]), torch.ones(1, len(row.docs), dtype=torch.bool)
        (on_groups(Layerwise(SoftmaxCE()), laid, labels, None, mask).sum() / len(data)).backward()
    expected = {f"model.{name}": part.grad for name, part in plain.named_parameters()}
    expected |= {f"lm_head.{number}.linear_head.weight": head.grad for number, head in enumerate(heads)}
    alike(expected, found)


def test_a_group_in_parts_has_the_gradient_of_the_whole(
    prepared: Prepared, make: Make, rows: Callable[..., list[TrainingRow]]
) -> None:
    """A token budget below one group changes no gradient, of any layer."""
    found = []
    for budget in (8192, 40):
        told = (*LAYERWISE, *OWN, f"model.checkpoint={make('qwen3')}", f"train.token_budget={budget}")
        run = prepared(*told, rows=rows(3))
        found.append(gradients(run))
    alike(*found)


def test_gradient_checkpointing_changes_no_gradient(
    prepared: Prepared, make: Make, rows: Callable[..., list[TrainingRow]]
) -> None:
    """Layers computed twice give the gradient of layers computed once."""
    found = []
    for checkpointing in ("false", "true"):
        told = (*LAYERWISE, *OWN, f"model.checkpoint={make('llama')}", f"model.gradient_checkpointing={checkpointing}")
        run = prepared(*told, rows=rows(3))
        computed: list[int] = []
        run.model.plain.model.layers[0].self_attn.register_forward_pre_hook(lambda *_, seen=computed: seen.append(1))
        found.append(gradients(run))
        assert len(computed) == (2 if checkpointing == "true" else 1)
    alike(*found)


def test_resumed_run_is_the_uninterrupted_one(
    prepared: Prepared, make: Make, tmp_path: Path, rows: Callable[..., list[TrainingRow]]
) -> None:
    """Four steps, and two steps and two more from the checkpoint, end at the same weights."""
    told = (*LAYERWISE, *OWN, *ADAM, f"model.checkpoint={make('llama')}", "train.eval_steps=2")
    whole = prepared(*told, f"train.out={tmp_path / 'whole'}", rows=rows(8))
    whole.train()
    again = prepared(*told, f"train.out={tmp_path / 'whole'}", rows=rows(8))
    again.train(resume=str(tmp_path / "whole" / "checkpoints" / "checkpoint-2"))
    for name, part in whole.model.module.named_parameters():
        assert torch.equal(part, again.model.module.get_parameter(name)), name


def test_dev_set_ranks_by_the_deepest_layer(
    prepared: Prepared, make: Make, rows: Callable[..., list[TrainingRow]]
) -> None:
    """Evaluation of the live model goes through the serving pipeline, as for any other kind."""
    run = prepared(*LAYERWISE, *OWN, f"model.checkpoint={make('qwen3')}", rows=rows(3), dev=rows(5))
    result = run.evaluate()
    assert result is not None
    live = live_reranker(run.model)
    expected = [score for row in rows(5) for score in live.rerank(row.query, row.docs).scores()]
    near(expected, [score for score, _ in result.scored])
