"""Low-rank adapters on every kind of reranker: what is trained, saved, resumed, merged and served."""

from __future__ import annotations

import copy
import functools
import json
import shutil
import sys
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import rerank_core
from rerank_core import CheckpointError, InputError, MissingDependencyError, write_spec
from rerank_core.records.training_row import TrainingRow
from rerank_core.testing import tiny_causal_lm, tiny_cross_encoder
from rerank_trainers.loop.dataset import Item
from rerank_trainers.loop.prepare import Run, live_reranker
from rerank_trainers.model.lora import merged, unquantized

pytest.importorskip("peft", reason="peft is not installed")

TEMPLATE = f"model.template={json.dumps({'query': 'Q: {query}', 'between': ' ', 'doc': 'D: {doc}', 'after': ' so?'})}"
LORA = ("model.lora.r=4", "model.lora.alpha=8", "model.dropout=0.1", "model.lora.dropout=0.1")
ADAM = ("train.arguments.optim=adamw_torch", "train.learning_rate=1e-2")
FOUR = ("train.max_steps=4", "train.eval_steps=2", "train.schedule=linear")
KINDS: dict[str, tuple[str, ...]] = {
    "cross-encoder": ("model.kind=cross-encoder",),
    "llm": ("model.kind=llm", TEMPLATE, 'model.answers=["yes", "no"]'),
    "layerwise": ("model.kind=layerwise", TEMPLATE, "model.first_layer=1"),
    "decoder": ("model.kind=cross-encoder",),
}
QUERY, DOCS = "what do pandas eat?", ("bamboo makes up most of it", "the world cup", "", "熊猫")

Prepared = Callable[..., Run]
Finished = Callable[[str], tuple[list[float], Run]]


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What adapters are trained on: for classifiers a base without a head, with another number of labels."""
    folder = tmp_path_factory.mktemp("bases")
    causal = tiny_causal_lm(folder / "causal", "qwen3", layers=2)
    return {
        "cross-encoder": tiny_cross_encoder(folder / "bert", "bert", head=False, labels=3),
        "llm": causal,
        "layerwise": causal,
        "decoder": tiny_causal_lm(folder / "qwen2", "qwen2", layers=2),
    }


@pytest.fixture
def adapted(prepared: Prepared, bases: dict[str, Path]) -> Prepared:
    """A run of a kind that trains adapters."""

    def make(kind: str, *more: str, **data: Any) -> Run:
        return prepared(*KINDS[kind], *LORA, *ADAM, f"model.checkpoint={bases[kind]}", *more, **data)

    return make


@pytest.fixture(scope="module")
def finished(prepared_once: Prepared, bases: dict[str, Path], rows: Callable[..., list[TrainingRow]]) -> Finished:
    """The scores before a run of four steps, and that run after it, once for each kind; not to be changed."""

    @functools.cache
    def of(kind: str) -> tuple[list[float], Run]:
        run = prepared_once(*KINDS[kind], *LORA, *ADAM, f"model.checkpoint={bases[kind]}", *FOUR, rows=rows(12))
        before = scores(live_reranker(run.model))
        run.train()
        return before, run

    return of


def scores(reranker: Any) -> list[float]:
    found: list[float] = reranker.rerank(QUERY, DOCS, activation="none").scores()
    return found


def near(expected: Sequence[float], found: Sequence[float]) -> None:
    assert list(found) == pytest.approx(list(expected), abs=1e-5, rel=1e-5)


def head(run: Run) -> dict[str, torch.Tensor]:
    """The weights of the score head that are trained."""
    return {
        name: part.detach().clone()
        for name, part in run.model.module.named_parameters()
        if part.requires_grad and "modules_to_save" in name
    }


@pytest.mark.parametrize("kind", ["cross-encoder", "layerwise", "decoder"])
def test_head_is_trained_and_saved(
    kind: str, adapted: Prepared, bases: dict[str, Path], tmp_path: Path, rows: Callable[..., list[TrainingRow]]
) -> None:
    """Every weight of the head moves and stands in the adapter's file; elsewhere it stays frozen (ST #3936)."""
    from safetensors.torch import load_file

    # A loss that sees the head's bias too.
    run = adapted(kind, "train.max_steps=1", "objective=bce", rows=rows(4))
    before = head(run)
    assert {name.split(".")[-1] for name in before} >= {"weight"}
    run.train()
    after = head(run)
    assert all(not torch.equal(after[name], own) for name, own in before.items())
    run.trainer.save_model(str(tmp_path / "saved"))
    saved = load_file(tmp_path / "saved" / "adapter_model.safetensors")
    kept = [own for name, own in saved.items() if "lora_" not in name]
    assert len(kept) == len(after)
    assert all(any(torch.equal(own, other) for other in kept) for own in after.values())
    trained = [name for name, part in run.model.module.named_parameters() if part.requires_grad]
    assert all("lora_" in name or "modules_to_save" in name for name in trained)
    assert not any("lora_" in name and "modules_to_save" in name for name in trained)


def test_pooler_that_was_never_saved_is_trained_whole(
    prepared: Prepared, tmp_path: Path, rows: Callable[..., list[TrainingRow]]
) -> None:
    """All fresh layers of a plain encoder are trained and saved with its head, not only the classifier."""
    from safetensors.torch import load_file
    from transformers import AutoModelForMaskedLM

    source = tiny_cross_encoder(tmp_path / "bert", "bert")
    auto: Any = AutoModelForMaskedLM
    config = auto.from_pretrained(str(source)).config
    auto.from_config(config).save_pretrained(str(source))  # no pooler, as a masked language model has none
    run = prepared(*LORA, *ADAM, f"model.checkpoint={source}", "train.max_steps=1", rows=rows(4))
    assert run.model.fresh == (
        "bert.pooler.dense.bias", "bert.pooler.dense.weight", "classifier.bias", "classifier.weight",
    )  # fmt: skip
    run.train()
    run.trainer.save_model(str(tmp_path / "saved"))
    saved = load_file(tmp_path / "saved" / "adapter_model.safetensors")
    assert {"base_model.model.bert.pooler.dense.weight", "base_model.model.classifier.weight"} <= saved.keys()
    near(scores(live_reranker(run.model)), scores(rerank_core.load(tmp_path / "saved", device="cpu")))


@pytest.mark.parametrize("kind", ["cross-encoder", "llm", "layerwise", "decoder"])
def test_adapter_and_merged_folder_serve_the_live_scores(kind: str, finished: Finished, tmp_path: Path) -> None:
    """A checkpoint of adapters loads by its path, merged weights give the same, and merging leaves the run be."""
    before, run = finished(kind)
    live = scores(live_reranker(run.model))
    assert max(abs(a - b) for a, b in zip(before, live, strict=True)) > 1e-2

    checkpoint = Path(run.config.train.out) / "checkpoints" / "checkpoint-4"
    assert (checkpoint / "adapter_model.safetensors").is_file()
    near(live, scores(rerank_core.load(checkpoint, device="cpu")))

    whole = merged(run.model.module)
    assert not any("lora_" in name or "modules_to_save" in name for name, _ in whole.named_parameters())
    whole.save_pretrained(str(tmp_path / "merged"))
    run.model.tokenizer.save_pretrained(str(tmp_path / "merged"))
    write_spec(run.model.spec, tmp_path / "merged", base=run.model.base)
    near(live, scores(rerank_core.load(tmp_path / "merged", device="cpu")))
    near(live, scores(live_reranker(run.model)))
    if kind == "layerwise":
        for folder in (checkpoint, tmp_path / "merged"):
            first = rerank_core.load(folder, device="cpu", layer=1).rerank(QUERY, DOCS)
            ranking = live_reranker(run.model).rerank(QUERY, DOCS)
            near([hit.scores["layer_1"] for hit in sorted(ranking, key=lambda hit: hit.index)], first.scores())


@pytest.mark.parametrize("kind", ["cross-encoder", "llm", "layerwise"])
def test_merging_layer_by_layer_is_pefts_own(kind: str, finished: Finished) -> None:
    """What merges a quantized base, whose layers peft would round again, gives on a plain base what peft gives."""
    _, run = finished(kind)
    expected = dict(merged(run.model.module).named_parameters())
    found = dict(unquantized(copy.deepcopy(run.model.module)).named_parameters())
    assert found.keys() == expected.keys()
    for name, part in expected.items():
        assert torch.allclose(part, found[name], atol=1e-6), name


@pytest.mark.parametrize("kind", ["cross-encoder", "llm", "layerwise"])
def test_best_checkpoint_is_what_is_left(kind: str, adapted: Prepared, rows: Callable[..., list[TrainingRow]]) -> None:
    """After training the adapters and heads are those of the best evaluation, not of the last step."""
    told = ("train.max_steps=5", "train.eval_steps=1", "train.learning_rate=0.5", "train.keep_checkpoints=9")
    run = adapted(kind, *told, rows=rows(12), dev=rows(6))
    run.train()
    best = run.trainer.state.best_model_checkpoint
    assert best is not None
    last = Path(best).with_name("checkpoint-5")
    assert str(last) != best
    live = scores(live_reranker(run.model))
    near(scores(rerank_core.load(best, device="cpu")), live)
    assert scores(rerank_core.load(last, device="cpu")) != pytest.approx(live, abs=1e-3)


@pytest.mark.parametrize("kind", ["cross-encoder", "llm", "layerwise"])
def test_resumed_run_is_the_uninterrupted_one(
    kind: str, adapted: Prepared, finished: Finished, rows: Callable[..., list[TrainingRow]]
) -> None:
    """Two steps and two more from the adapter's checkpoint give the weights of four, with dropout, a bias frozen."""
    _, whole = finished(kind)
    again = adapted(kind, *FOUR, rows=rows(12))
    shutil.copytree(whole.config.train.out, again.config.train.out, dirs_exist_ok=True)
    again.train(resume=str(Path(again.config.train.out) / "checkpoints" / "checkpoint-2"))
    for name, part in whole.model.module.named_parameters():
        assert torch.equal(part, again.model.module.get_parameter(name)), name


@pytest.mark.parametrize("kind", ["cross-encoder", "llm", "layerwise"])
def test_gradient_checkpointing_reaches_the_adapters(
    kind: str, adapted: Prepared, rows: Callable[..., list[TrainingRow]]
) -> None:
    """Over a frozen base, layers computed twice give adapters the gradient of layers computed once, and not none."""
    found = []
    for checkpointing in ("false", "true"):
        told = ("model.dropout=0.0", "model.lora.dropout=0.0", f"model.gradient_checkpointing={checkpointing}")
        run = adapted(kind, *told, rows=rows(4))
        groups: Any = run.trainer.train_dataset
        step = run.trainer.passes([groups[Item(row, 0, 0.25)] for row in range(4)])
        run.trainer.training_step(run.model.module, step)
        found.append({name: p.grad.clone() for name, p in run.model.module.named_parameters() if p.requires_grad})
    for name, gradient in found[0].items():
        assert torch.allclose(gradient, found[1][name], atol=1e-5), name
        assert "lora_B" not in name or bool(gradient.any()), name


def test_targets_are_chosen_and_checked(adapted: Prepared) -> None:
    """Adapters lie on the layers named and no others; names that nothing has are an error."""
    run = adapted("llm", "model.lora.targets=[q_proj, v_proj]")
    layers = {
        name.split(".lora_")[0].rpartition(".")[2] for name, _ in run.model.module.named_parameters() if "lora_" in name
    }
    assert layers == {"q_proj", "v_proj"}
    with pytest.raises(InputError, match=r"model\.lora\.targets \['nothing'\]"):
        adapted("llm", "model.lora.targets=[nothing]")


def test_training_does_not_start_from_an_adapter(
    adapted: Prepared, tmp_path: Path, rows: Callable[..., list[TrainingRow]]
) -> None:
    """A folder of adapters as `model.checkpoint` is refused with what to do, not with a missing file."""
    run = adapted("llm", rows=rows(4))
    run.trainer.save_model(str(tmp_path / "saved"))
    with pytest.raises(InputError, match="holds an adapter"):
        adapted("llm", f"model.checkpoint={tmp_path / 'saved'}")


def test_quantized_base_says_what_it_needs(adapted: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    """`bits: 4` without bitsandbytes names the extra, and without a GPU says so, before any weight is read."""
    import importlib.util

    if importlib.util.find_spec("bitsandbytes") is None:
        with pytest.raises(MissingDependencyError, match=r"rerank-trainers\[qlora\]"):
            adapted("llm", "model.lora.bits=4")
        module = types.ModuleType("bitsandbytes")
        module.__spec__ = importlib.util.spec_from_loader("bitsandbytes", None)
        monkeypatch.setitem(sys.modules, "bitsandbytes", module)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="needs a GPU"):
        adapted("llm", "model.lora.bits=4")


def test_missing_peft_names_the_extra(adapted: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without peft, `lora` says what to install."""
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingDependencyError, match=r"rerank-trainers\[lora\]"):
        adapted("llm")


def test_resuming_from_half_an_adapter_is_refused(
    adapted: Prepared, tmp_path: Path, rows: Callable[..., list[TrainingRow]]
) -> None:
    """peft leaves what a checkpoint lacks as it was drawn; the run would go on with other weights than it had."""
    from safetensors.torch import load_file, save_file

    told = ("train.max_steps=2", "train.eval_steps=1", f"train.out={tmp_path / 'run'}")
    adapted("cross-encoder", *told, rows=rows(4)).train()
    checkpoint = tmp_path / "run" / "checkpoints" / "checkpoint-1"
    file = checkpoint / "adapter_model.safetensors"
    tensors = load_file(file)
    save_file({name: own for name, own in tensors.items() if "lora_B" not in name}, file)

    with pytest.raises(CheckpointError, match=r"lacks '.*lora_B"):
        adapted("cross-encoder", *told, rows=rows(4)).train(resume=str(checkpoint))
