"""Embedding and late-interaction models from opening to publishing: settings, checkpoints, adapters, averages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.runs import MakeRows, Prepared, folder, same, trained, weights
from safetensors.torch import load_file

import rerank_core
from rerank_core import Head, InputError
from rerank_core.testing import tiny_causal_lm, tiny_encoder
from rerank_trainers.config.schema import PublishConfig
from rerank_trainers.kinds import KINDS
from rerank_trainers.loop.run import live_reranker
from rerank_trainers.model.averaging import average, start_of
from rerank_trainers.publish.from_run import publish_checkpoint, publish_run

DOCS = ["a bear from China", "the capital of France", "大熊猫吃竹子", ""]


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT without a head."""
    return tiny_encoder(tmp_path_factory.mktemp("bare"), "bert")


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Qwen3."""
    return tiny_causal_lm(tmp_path_factory.mktemp("qwen3"), "qwen3", std=0.1)


def scores(reranker: Any) -> list[float]:
    return [score for query in ("panda?", "法国") for score in reranker.rerank(query, DOCS, activation="none").scores()]


KIND = {
    "embedding": ("model.kind=embedding", "model.width=24", 'model.prompts={"query": "query: ", "document": "text: "}'),
    "plain": ("model.kind=embedding", "model.pooling=cls"),
    "colbert": ("model.kind=colbert", "model.width=16", "model.width_bias=true"),
    "adapters": ("model.kind=colbert", "model.width=16", 'model.lora={"r": 4}'),
    "mean": ("model.kind=colbert", "model.width=0", "model.reduce=mean", 'model.tokens={"skip_first": true}'),
}


@pytest.mark.parametrize("kind", KIND)
def test_a_model_is_published_with_equal_scores(
    prepared: Prepared, bare: Path, rows: MakeRows, tmp_path: Path, kind: str
) -> None:
    """In a fresh process and, where it reads such models, in sentence-transformers; a checkpoint gives the same folder,
    and training goes on from it with the same scores."""
    run = prepared(f"model.checkpoint={bare}", "objective=infonce", *KIND[kind], rows=rows(9))
    run.train()
    found = publish_run(run, tmp_path / "out")
    assert found.deviation <= 1e-5
    assert max(found.elsewhere.values()) <= 1e-5
    assert "sentence-transformers" in found.elsewhere
    live = scores(live_reranker(run.model))
    assert len(set(live)) > 4
    assert scores(rerank_core.load(tmp_path / "out")) == pytest.approx(live, abs=1e-5)

    publish_checkpoint(run.config.train.out, tmp_path / "again", KINDS)
    assert scores(rerank_core.load(tmp_path / "again")) == pytest.approx(live, abs=1e-5)

    more = prepared(f"model.checkpoint={tmp_path / 'out'}", "objective=infonce", KIND[kind][0], rows=rows(9))
    assert more.model.fresh == ()
    assert scores(live_reranker(more.model)) == pytest.approx(live, abs=1e-5)


@pytest.mark.parametrize("kind", ["embedding", "colbert"])
def test_resuming_is_exact(prepared: Prepared, bare: Path, rows: MakeRows, kind: str) -> None:
    """From a checkpoint in the middle, dropout on: weights equal to the bit, those of the new layer included."""
    told = (f"model.checkpoint={bare}", "objective=infonce", *KIND[kind], "model.dropout=0.1", "train.eval_steps=2",
            "train.epochs=2", "train.batch_size=4", "train.learning_rate=0.01", "train.keep_checkpoints=9")  # fmt: skip
    whole = prepared(*told, rows=rows(9), dev=rows(5))
    start = weights(whole)
    end = trained(whole)
    assert not torch.equal(start["projection.0.weight"], end["projection.0.weight"])
    again = prepared(*told, f"train.out={whole.config.train.out}", rows=rows(9), dev=rows(5))
    assert same(trained(again, resume=str(folder(whole, 2))), end)


def test_a_decoder_reads_its_end_token(prepared: Prepared, decoder: Path, rows: MakeRows, tmp_path: Path) -> None:
    """Last-token pooling, an end token after each text, adapters merged when published."""
    run = prepared(
        f"model.checkpoint={decoder}", "model.kind=embedding", "objective=infonce", 'model.lora={"r": 4}',
        "train.learning_rate=0.01", rows=rows(9),
    )  # fmt: skip
    assert run.model.spec.head == Head.cosine("last")
    assert run.model.scorer.packed
    end = run.model.tokenizer.eos_token_id
    assert run.model.scorer.tokenizer.raw.encode("panda").ids[-1] == end
    before = scores(live_reranker(run.model))
    run.train()
    live = scores(live_reranker(run.model))
    assert live != pytest.approx(before, abs=1e-3)
    found = publish_run(run, tmp_path / "out")
    assert max(found.elsewhere.values()) <= 1e-5
    assert not (tmp_path / "out" / "adapter_config.json").exists()
    assert scores(rerank_core.load(tmp_path / "out")) == pytest.approx(live, abs=1e-5)


def test_each_width_is_measured_and_recorded(prepared: Prepared, bare: Path, rows: MakeRows, tmp_path: Path) -> None:
    """Matryoshka: the metrics of every width are those of the folder loaded with `truncate_dim`."""
    run = prepared(
        f"model.checkpoint={bare}", "model.kind=embedding", "objective=infonce", "model.matryoshka=[16, 8, 32]",
        rows=rows(9), dev=rows(7),
    )  # fmt: skip
    assert run.model.widths == (32, 16, 8)
    found = run.evaluate()
    assert found is not None
    assert {"nDCG@10", "nDCG@10 (16)", "nDCG@10 (8)"} <= set(found.values)
    publish_run(run, tmp_path / "out", after=found)
    assert run.dev is not None
    short = run.dev.evaluate(rerank_core.load(tmp_path / "out", truncate_dim=8))
    assert short.queries["nDCG@10"] == pytest.approx(found.queries["nDCG@10 (8)"])
    run.train()
    publish_checkpoint(run.config.train.out, tmp_path / "again", KINDS, dev_rows=rows(7))
    for name in ("out", "again"):
        assert json.loads((tmp_path / name / "config.json").read_text())["matryoshka_dimensions"] == [32, 16, 8]
        assert "| nDCG@10 (8) |" in (tmp_path / name / "README.md").read_text()


def test_the_published_average_lies_between_start_and_end(prepared: Prepared, bare: Path, rows: MakeRows) -> None:
    """Every weight but those that were new; of adapters their product."""
    told = (f"model.checkpoint={bare}", "objective=infonce", *KIND["embedding"], "train.learning_rate=0.05")
    run = prepared(*told, rows=rows(9))
    begin = weights(run)
    end = trained(run)
    average(run.model, start_of(run.config.model, run.model.kind), 0.25)
    for name, weight in run.model.module.named_parameters():
        expected = end[name] if name == "projection.0.weight" else 0.75 * end[name] + 0.25 * begin[name]
        torch.testing.assert_close(weight.detach(), expected)

    run = prepared(f"model.checkpoint={bare}", "objective=infonce", "model.kind=colbert", "model.width=0",
                   'model.lora={"r": 4, "dropout": 0}', "train.learning_rate=0.05", rows=rows(9))  # fmt: skip
    run.train()
    merged = publishable(run.model)
    average(run.model, start_of(run.config.model, run.model.kind), 0.25)
    halfway, begin = publishable(run.model), publishable(start_of(run.config.model, run.model.kind))
    assert any(not torch.equal(merged[name], begin[name]) for name in merged)
    for name, value in halfway.items():
        torch.testing.assert_close(value, 0.75 * merged[name] + 0.25 * begin[name], rtol=1e-4, atol=1e-6)


def test_a_published_checkpoint_keeps_its_new_layer(
    prepared: Prepared, bare: Path, rows: MakeRows, tmp_path: Path
) -> None:
    """A checkpoint does not say that its layer was new; averaged with a layer drawn again, it would be spoilt."""
    run = prepared(f"model.checkpoint={bare}", "objective=infonce", *KIND["embedding"], rows=rows(9))
    run.train()
    publish_checkpoint(run.config.train.out, tmp_path / "out", KINDS, PublishConfig(average_with_start=0.5))
    saved = load_file(tmp_path / "out" / "2_Dense" / "model.safetensors")
    torch.testing.assert_close(saved["linear.weight"], run.model.module.projection[0].weight.detach())


def test_a_decoder_may_be_pooled_without_an_end_token(prepared: Prepared, decoder: Path) -> None:
    """The mean needs no end token, so none is appended."""
    run = prepared(f"model.checkpoint={decoder}", "model.kind=embedding", "model.pooling=mean", "objective=infonce")
    assert run.model.spec.head == Head.cosine("mean")
    assert run.model.scorer.tokenizer.raw.encode("panda").ids[-1] != run.model.tokenizer.eos_token_id


def publishable(model: Any) -> dict[str, torch.Tensor]:
    from rerank_trainers.model.lora import merged

    return dict(merged(model.module).state_dict())


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (("model.kind=cross-encoder", "objective=infonce"), "compares all texts of a step"),
        (("model.kind=colbert", "objective=embed_distill"), "reads one vector per text"),
        (("model.kind=colbert", "model.matryoshka=[8]"), "does not read it.*kind=embedding"),
        (("model.kind=embedding", "model.matryoshka=[4096]"), "use at most"),
        (("model.kind=embedding", 'model.prompts={"doc": "x"}'), "keys are 'query' and 'document'"),
        (("model.kind=embedding", 'model.answers=["yes"]'), "does not read it.*kind=llm or layerwise"),
        (("model.kind=embedding", "model.width=-1"), "0 .no layer. or more"),
        (("model.kind=colbert", 'model.tokens={"skipfirst": true}'), "its fields are"),
        (("model.kind=embedding", "publish.calibrate=true"), "set data.eval"),
        (("model.kind=embedding", "publish.average_with_start=1.5"), "must be from 0"),
        (("model.kind=embedding", 'model.template={"query": "{query}?"}'), "after"),
    ],
)
def test_settings_that_do_not_fit_are_refused(prepared: Prepared, bare: Path, told: tuple[str, ...], said: str) -> None:
    """Before a step is taken, naming the setting."""
    with pytest.raises(InputError, match=said):
        prepared(f"model.checkpoint={bare}", "objective=infonce", *told)


def test_word_embeddings_can_be_frozen(prepared: Prepared, bare: Path, rows: MakeRows) -> None:
    """The table keeps its values, and the other weights are trained."""
    run = prepared(f"model.checkpoint={bare}", "model.kind=embedding", "objective=infonce",
                   "model.freeze_embeddings=true", "train.learning_rate=0.01", rows=rows(9))  # fmt: skip
    begin = weights(run)
    end = trained(run)
    table = "embeddings.word_embeddings.weight"
    assert torch.equal(begin[table], end[table])
    assert not torch.equal(begin["embeddings.LayerNorm.weight"], end["embeddings.LayerNorm.weight"])


def test_bge_m3_starts_with_its_own_layer(prepared: Prepared, rows: MakeRows, tmp_path: Path) -> None:
    """RAG-Retrieval looks for `colbert_linear.pt` beside a hub id, finds none, and trains a random layer unasked. Here
    the layer is that of the file, a folder without the file is refused, and the published folder has the file again."""
    m3 = tiny_encoder(tmp_path / "m3", "xlm-roberta")
    like = ("model.kind=colbert", "model.like=bge-m3-colbert", "objective=infonce", f"model.checkpoint={m3}")
    width = json.loads((m3 / "config.json").read_text())["hidden_size"]
    layer, sparse = torch.nn.Linear(width, width), torch.nn.Linear(width, 1)
    torch.save(sparse.state_dict(), m3 / "sparse_linear.pt")
    with pytest.raises(rerank_core.CheckpointError, match=r"colbert_linear.pt is missing"):
        prepared(*like)
    torch.save(layer.state_dict(), m3 / "colbert_linear.pt")
    run = prepared(*like, rows=rows(9))
    assert run.model.fresh == ()
    torch.testing.assert_close(run.model.module.projection[0].weight, layer.weight)
    served = rerank_core.load("bge-m3-colbert", checkpoint=str(m3))
    assert scores(live_reranker(run.model)) == pytest.approx(scores(served), abs=1e-5)
    run.train()
    publish_run(run, tmp_path / "out")
    saved = torch.load(tmp_path / "out" / "colbert_linear.pt", weights_only=True)
    torch.testing.assert_close(saved["weight"], run.model.module.projection[0].weight.detach())
    assert not torch.equal(saved["weight"], layer.weight)


def test_a_prompt_may_replace_that_of_the_checkpoint(prepared: Prepared) -> None:
    """`mini-multilingual`'s words are compressed: its table is read out, stays as it is, and its prompts are kept."""
    pytest.importorskip("rerank_mini")
    run = prepared("model.checkpoint=mini-multilingual", "model.kind=embedding", "objective=infonce")
    template = run.model.spec.template
    assert (template.query, template.doc) == ("query: {query}", "passage: {doc}")
    table = run.model.module.get_input_embeddings()
    assert (tuple(table.weight.shape), table.weight.requires_grad) == ((250037, 384), False)
    served = rerank_core.load("mini-multilingual", score="cosine")
    expected = served.rerank("大熊猫吃什么？", DOCS[:3]).scores()
    assert live_reranker(run.model).rerank("大熊猫吃什么？", DOCS[:3]).scores() == pytest.approx(expected, abs=1e-5)


def test_a_folder_of_sentence_transformers_goes_on(prepared: Prepared, rows: MakeRows, tmp_path: Path) -> None:
    """Its pooling, layers with their activation, and prompts are those of the start and of the published folder."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer

    made = SentenceTransformer(
        modules=[
            Transformer(str(tiny_encoder(tmp_path / "base", "bert"))),
            Pooling(32, pooling_mode="cls"),
            Dense(32, 24, activation_function=torch.nn.Tanh()),
            Normalize(),
        ],
        prompts={"query": "find: ", "document": ""},
    )
    made.save(str(tmp_path / "start"))
    run = prepared(f"model.checkpoint={tmp_path / 'start'}", "model.kind=embedding", "objective=infonce", rows=rows(9))
    assert run.model.fresh == ()
    assert run.model.spec.head == Head.cosine("cls", ["2_Dense"])
    assert run.model.spec.template.query == "find: {query}"
    live = scores(live_reranker(run.model))
    expected = made.similarity(made.encode(["find: panda?", "find: 法国"]), made.encode(DOCS)).flatten().tolist()
    assert live == pytest.approx(expected, abs=1e-5)
    run.train()
    found = publish_run(run, tmp_path / "out")
    assert max(found.deviation, *found.elsewhere.values()) <= 1e-5
    assert scores(live_reranker(run.model)) != pytest.approx(live, abs=1e-4)
