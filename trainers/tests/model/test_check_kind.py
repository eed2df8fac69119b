"""A model that ranks in another way is no cross-encoder unasked: what it is, and how to go on, is said first."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.runs import Prepared
from typer.testing import CliRunner

from rerank_core import Head, InputError, ModelSpec, Template, write_spec
from rerank_core.cli import app
from rerank_core.testing import tiny_cross_encoder, tiny_encoder
from rerank_trainers.config.schema import ModelConfig
from rerank_trainers.kinds import KINDS
from rerank_trainers.loop.prepare import Run
from rerank_trainers.model.source import source_of

ROW = {"query": "what is a panda?", "pos": ["a bear"], "neg": ["a city", "a cup"]}
TEMPLATE = {"before": "{bos}", "query": "A: {query}", "between": "\n", "doc": "B: {doc}", "after": "\n"}


def late(folder: Path) -> Path:
    """A late-interaction model as sentence-transformers saves it."""
    made = tiny_encoder(folder, "bert")
    (made / "config_sentence_transformers.json").write_text(json.dumps({"model_type": "MultiVectorEncoder"}))
    modules = [("Transformer", ""), ("Normalize", "1_Normalize")]
    entries = [{"type": f"sentence_transformers.models.{name}", "path": path} for name, path in modules]
    (made / "modules.json").write_text(json.dumps(entries))
    (made / "1_Normalize").mkdir()
    (made / "1_Normalize" / "config.json").write_text(json.dumps({"module_input_name": "token_embeddings"}))
    return made


def broken(folder: Path) -> Path:
    """A late-interaction model without the list of its modules."""
    made = late(folder)
    (made / "modules.json").unlink()
    return made


def embedding(folder: Path) -> Path:
    """An embedding model as sentence-transformers saves it."""
    made = tiny_encoder(folder, "bert")
    modules = [("Transformer", ""), ("Pooling", "1_Pooling")]
    entries = [{"type": f"sentence_transformers.models.{name}", "path": path} for name, path in modules]
    (made / "modules.json").write_text(json.dumps(entries))
    (made / "1_Pooling").mkdir()
    (made / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    return made


def answering(folder: Path, decoder: Path) -> Path:
    """A causal model that describes itself as a reranker."""
    folder.mkdir()
    for file in decoder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    spec = ModelSpec(name="own", checkpoint=str(folder), template=Template(**TEMPLATE), head=Head.last_token("Yes"))
    write_spec(spec, folder)
    return folder


def dense(folder: Path) -> Path:
    """An encoder whose score comes from layers beside it."""
    made = tiny_encoder(folder, "bert")
    write_spec(ModelSpec(name="own", checkpoint=str(made), head=Head.dense("cls", ["2_Dense"])), made)
    return made


@pytest.mark.parametrize("kind", ["mini", "late", "broken", "embedding", "answering", "dense"])
def test_another_kind_of_model_needs_its_kind_said(
    kind: str, tmp_path: Path, decoder: Path, prepared: Callable[..., Run]
) -> None:
    """The message says what the checkpoint is and which setting goes on; with that setting it is trained."""
    made = {
        "late": late,
        "embedding": embedding,
        "broken": broken,
        "dense": dense,
        "answering": lambda folder: answering(folder, decoder),
    }
    checkpoint = "mini" if kind == "mini" else str(made[kind](tmp_path / kind))
    told = {
        "embedding": "an embedding model",
        "answering": "answers with a word",
        "broken": "modules.json is missing",
        "dense": "layers beside it",
    }
    what = told.get(kind, "late-interaction model")
    with pytest.raises(InputError, match=what) as refused:
        source_of(ModelConfig(checkpoint=checkpoint), KINDS["cross-encoder"])

    setting = str(refused.value).rpartition("--set ")[2]
    assert setting == "model.kind=cross-encoder"
    if kind == "answering":
        assert "`rerank train llm`, or --set model.kind=llm" in str(refused.value)
        run = prepared(f"model.checkpoint={checkpoint}", "model.kind=llm", "train.max_steps=1")
        assert run.model.spec.head == Head.last_token("Yes")
    run = prepared(f"model.checkpoint={checkpoint}", setting, "train.max_steps=1")
    assert run.model.spec.head == Head.classifier()
    assert run.model.fresh


def test_a_base_model_gets_its_head_unasked(
    tmp_path: Path, prepared: Prepared, caplog: pytest.LogCaptureFixture
) -> None:
    """An encoder that was never a reranker forgets nothing; the log says that the head is fresh."""
    run = prepared(f"model.checkpoint={tiny_encoder(tmp_path / 'base', 'bert')}")
    assert run.model.fresh
    assert "these weights, which start at random" in caplog.text


def test_a_cross_encoder_goes_on_unasked(tmp_path: Path, prepared: Prepared, caplog: pytest.LogCaptureFixture) -> None:
    """A one-label classifier keeps its head, whether pooling is described beside it or not."""
    checkpoint = tiny_cross_encoder(tmp_path / "model", "bert")
    (checkpoint / "modules.json").write_text('[{"type": "sentence_transformers.models.Pooling"}]')
    assert not prepared(f"model.checkpoint={checkpoint}").model.fresh
    assert "fresh" not in caplog.text


@pytest.mark.parametrize("flags", [("-m", "mini"), ("-m", "mini", "--dry-run"), ("-m", "bge-reranker-v2-gemma")])
def test_the_command_says_it_in_one_line(flags: tuple[str, ...], tmp_path: Path) -> None:
    """`rerank train reranker --model mini` ends before a download, with the setting on stderr; --dry-run too."""
    (tmp_path / "train.jsonl").write_text(json.dumps(ROW))
    common = ("--train", str(tmp_path / "train.jsonl"), "--out", str(tmp_path / "run"), "--set", "train.device=cpu")
    done = CliRunner().invoke(app, ["train", "reranker", *common, *flags])

    assert done.exit_code == 1
    assert "--set model.kind=cross-encoder" in done.stderr
    assert not list(tmp_path.glob("run/*"))


@pytest.mark.parametrize("name", ["llm-listwise", "llm-listwise-api"])
@pytest.mark.parametrize("kind", [(), ("--set", "model.kind=cross-encoder"), ("--set", "model.kind=llm")])
def test_a_name_without_weights_is_not_trained(name: str, kind: tuple[str, ...], tmp_path: Path) -> None:
    """A name that runs whatever an option names has nothing to start from, whatever kind is asked for."""
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps(ROW) + "\n")
    done = CliRunner().invoke(app, ["train", "reranker", "--train", str(path), "-m", name, *kind, "--dry-run"])

    assert done.exit_code == 1
    assert f"model.checkpoint {name!r} has no weights of its own; give the folder or hub id" in done.stderr
