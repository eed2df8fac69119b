"""Starts whose kind or layers the run does not continue, and starts without special tokens, end in a folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from helpers.runs import MakeRows, Prepared

import rerank_core
from rerank_core.backends.torch.side_layers.projection import Projection
from rerank_core.testing import tiny_encoder
from rerank_trainers.loop.prepare import live_reranker
from rerank_trainers.publish.folders.dense import write_dense
from rerank_trainers.publish.folders.json_files import write_json
from rerank_trainers.publish.from_run import publish_run

DOCS = ["the giant panda is a bear", "Paris", "巴黎是法国的首都"]


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT without a head."""
    return tiny_encoder(tmp_path_factory.mktemp("bare"), "bert", std=0.3)


@pytest.mark.parametrize(
    "then",
    [("model.kind=embedding", "model.width=8"), ("model.kind=colbert",), ("model.kind=colbert", "model.width=0")],
)
def test_a_published_folder_starts_a_model_of_another_head(
    prepared: Prepared, bare: Path, rows: MakeRows, tmp_path: Path, then: tuple[str, ...]
) -> None:
    """Its reranker.json describes the head that the new run leaves out, and is no contradiction."""
    first = prepared(f"model.checkpoint={bare}", "model.kind=embedding", "model.width=16", "objective=infonce")
    publish_run(first, tmp_path / "first")
    run = prepared(f"model.checkpoint={tmp_path / 'first'}", "objective=infonce", *then, rows=rows(9))
    assert bool(run.model.fresh) == (then[-1] != "model.width=0")
    run.train()
    publish_run(run, tmp_path / "second")
    expected = live_reranker(run.model).rerank("what is a panda?", DOCS).scores()
    with rerank_core.load(tmp_path / "second", device="cpu") as served:
        assert served.rerank("what is a panda?", DOCS).scores() == pytest.approx(expected, abs=1e-5)


@pytest.fixture
def scaled(bare: Path, tmp_path: Path) -> Path:
    """An embedding model as sentence-transformers saves it, whose vectors are scaled before a linear layer."""
    made = Path(shutil.copytree(bare, tmp_path / "scaled"))
    modules = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize"), ("Dense", "3_Dense")]
    entries = [{"type": f"sentence_transformers.models.{name}", "path": path} for name, path in modules]
    (made / "modules.json").write_text(json.dumps(entries), encoding="utf-8")
    write_json(made / "1_Pooling" / "config.json", {"pooling_mode_mean_tokens": True})
    layer = Projection("3_Dense", 32, torch.randn(12, 32, generator=torch.Generator().manual_seed(1)))
    write_dense(made / "3_Dense", layer)
    return made


@pytest.mark.parametrize("setting", ["model.pooling=mean", "model.pooling=cls", "model.width=6", "model.width=0"])
def test_a_model_with_layers_is_trained_on(
    prepared: Prepared, scaled: Path, rows: MakeRows, tmp_path: Path, setting: str
) -> None:
    """Its layers are kept, a scale between them included, or replaced; its own settings do not forbid other vectors."""
    told = (f"model.checkpoint={scaled}", "objective=infonce", "model.kind=embedding", setting)
    run = prepared(*told, rows=rows(9))
    run.train()
    found = publish_run(run, tmp_path / "out")
    assert max(found.deviation, *found.elsewhere.values()) <= 1e-5
    head = rerank_core.load(tmp_path / "out").spec.head
    assert head is not None
    assert len(head.modules) == {"model.width=6": 1, "model.width=0": 0}.get(setting, 2)


def test_a_decoder_without_special_tokens_becomes_colbert(
    prepared: Prepared, decoder: Path, rows: MakeRows, tmp_path: Path
) -> None:
    """An empty text has no token there, and sentence-transformers gives it -1e9: no reason not to publish."""
    run = prepared(f"model.checkpoint={decoder}", "model.kind=colbert", "objective=infonce", rows=rows(9))
    assert run.model.tokenizer("")["input_ids"] == []
    run.train()
    found = publish_run(run, tmp_path / "out")
    assert max(found.deviation, *found.elsewhere.values()) <= 1e-5
    assert "sentence-transformers" in found.elsewhere


@pytest.mark.parametrize("kind", ["embedding", "colbert"])
def test_an_activation_of_similarities_is_refused(prepared: Prepared, kind: str) -> None:
    """Found before the data is read, not when the trained model is published."""
    with pytest.raises(rerank_core.InputError, match=r"publish\.activation is 'sigmoid'.*no logits"):
        prepared("model.checkpoint=/no/such/model", f"model.kind={kind}", "publish.activation=sigmoid")
