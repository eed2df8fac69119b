"""Where a model with a score at every layer starts: its own heads, or the output layer of a causal model."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.llms import DOCS, LAYERWISE, OWN, PIECES, QUERY, Make, Prepared, by_layer, like, maker, near, passes
from helpers.steps import scores_of

import rerank_core
from rerank_core import CheckpointError, Head, InputError
from rerank_core.records.training_row import TrainingRow
from rerank_core.testing.decoders import write_tokenizer
from rerank_trainers.loop.prepare import live_reranker


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """A tiny causal model of four layers, of a family, made once."""
    return maker(tmp_path_factory.mktemp, layers=4)


@pytest.fixture(scope="module")
def minicpm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as BAAI publishes bge-reranker-v2-minicpm-layerwise, ten layers and small."""
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("minicpm")
    size = write_tokenizer(folder, "sentencepiece")
    config = {
        "architectures": ["LayerWiseMiniCPMForCausalLM"], "model_type": "minicpm", "vocab_size": size,
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 10, "num_attention_heads": 4,
        "num_key_value_heads": 4, "max_position_embeddings": 1024, "rms_norm_eps": 1e-5, "hidden_act": "silu",
        "scale_emb": 12, "scale_depth": 1.4, "dim_model_base": 256, "start_layer": 8, "head_multi": True,
        "head_type": "simple", "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (size, 32), "model.norm.weight": (32,)}
    for layer in range(10):
        at = f"model.layers.{layer}."
        shapes |= {f"{at}self_attn.{name}_proj.weight": (32, 32) for name in "qkvo"}
        shapes |= {f"{at}mlp.{name}_proj.weight": (64, 32) for name in ("gate", "up")}
        shapes |= {f"{at}mlp.down_proj.weight": (32, 64)}
        shapes |= {f"{at}{name}_layernorm.weight": (32,) for name in ("input", "post_attention")}
    shapes |= {f"lm_head.{number}.linear_head.weight": (1, 32) for number in range(3)}
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: torch.randn(shape, generator=generator) * 0.3 + float(name.endswith("norm.weight"))
        for name, shape in shapes.items()
    }
    save_file(weights, str(folder / "model.safetensors"), metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("family", ["qwen3", "gemma2", "granite"])
def test_fresh_heads_say_what_the_model_would(family: str, prepared: Prepared, make: Make) -> None:
    """The last layer starts as the logit of Yes, or the difference of two answers, of the causal model itself."""
    one = prepared(*LAYERWISE, *OWN, f"model.checkpoint={make(family)}")
    assert one.model.fresh == ()
    template = f"model.template={json.dumps(PIECES)}"
    llm = prepared("model.kind=llm", template, 'model.answers=["Yes"]', f"model.checkpoint={make(family)}")
    near(live_reranker(llm.model).rerank(QUERY, DOCS).scores(), by_layer(live_reranker(one.model))["layer_4"])
    if family == "qwen3":
        pair = 'model.answers=["yes", "no"]'
        two = prepared(*LAYERWISE, *OWN, pair, f"model.checkpoint={make(family)}")
        llm = prepared("model.kind=llm", template, pair, f"model.checkpoint={make(family)}")
        near(live_reranker(llm.model).rerank(QUERY, DOCS).scores(), by_layer(live_reranker(two.model))["layer_4"])


def test_model_that_follows_instructions_goes_on_to(
    prepared: Prepared, make: Make, tmp_path: Path, rows: Callable[..., list[TrainingRow]]
) -> None:
    """Trained like Qwen3-Reranker, a folder takes `instruction=` and `layer=`; rows' own instructions are read."""
    data = [TrainingRow(row.query, row.docs, row.labels, instruction="Find pandas", id=row.id) for row in rows(3)]
    told = (*LAYERWISE, like("qwen3-reranker-0.6b"), f"model.checkpoint={make('qwen3')}")
    run = prepared(*told, "model.first_layer=3", "model.max_length=256", "train.max_steps=1", rows=data)
    live = by_layer(live_reranker(run.model), instruction="Find pandas")
    run.model.module.eval()
    (part,) = passes(run)["passes"]
    with torch.no_grad():
        trained = scores_of(run.model, run.model.module, part.batch)[part.place]
    ranking = live_reranker(run.model).rerank(data[0].query, data[0].docs, activation="none", instruction="Find pandas")
    line = part.ids.index("row-0")
    near(ranking.scores(), trained[line, part.mask[line], -1].tolist())

    run.trainer.save_model(str(tmp_path / "saved"))
    served = rerank_core.load(tmp_path / "saved", device="cpu", layer=3)
    near(live["layer_3"], by_layer(served, instruction="Find pandas")["score"])


def test_layerwise_checkpoint_goes_on_with_its_heads(
    prepared: Prepared, minicpm: Path, tmp_path: Path, rows: Callable[..., list[TrainingRow]]
) -> None:
    """BGE's MiniCPM starts with its own scores, is trained, and serves without its plugin; so does what follows it."""
    told = (*LAYERWISE, "model.max_length=256", "train.learning_rate=1e-3", "train.max_steps=2")
    run = prepared(*told, like("bge-llm-layerwise"), f"model.checkpoint={minicpm}", rows=rows(3))
    live = by_layer(live_reranker(run.model))
    for layer in (8, 9, 10):
        named = rerank_core.load("bge-llm-layerwise", checkpoint=minicpm, device="cpu", layer=layer, max_length=256)
        near(by_layer(named)["score"], live[f"layer_{layer}"])
    assert (run.model.base, run.model.spec.head) == (None, Head.layers(8))
    run.train()
    live = by_layer(live_reranker(run.model))
    run.trainer.save_model(str(tmp_path / "saved"))
    for layer in (8, 10):
        near(live[f"layer_{layer}"], by_layer(rerank_core.load(tmp_path / "saved", device="cpu", layer=layer))["score"])
    again = prepared(*told, f"model.checkpoint={tmp_path / 'saved'}", f"train.out={tmp_path / 'again'}", rows=rows(3))
    for name, scores in by_layer(live_reranker(again.model)).items():
        near(live[name], scores)
    with pytest.raises(InputError, match="scores from layer 8 on"):
        prepared(*told, "model.first_layer=9", f"model.checkpoint={tmp_path / 'saved'}")


def test_base_model_without_output_layer_gets_random_heads(
    prepared: Prepared, tmp_path: Path, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """Where nothing says what a head should be it is drawn from the seed, and the run says so."""
    from transformers import AutoModel, AutoTokenizer

    auto: Any = AutoModel
    auto.from_pretrained(str(make("llama"))).save_pretrained(str(tmp_path / "bare"))
    AutoTokenizer.from_pretrained(str(make("llama"))).save_pretrained(str(tmp_path / "bare"))
    run = prepared(*LAYERWISE, *OWN, f"model.checkpoint={tmp_path / 'bare'}")
    assert run.model.fresh == tuple(f"lm_head.{number}.linear_head.weight" for number in range(3))
    assert "start at random" in caplog.text
    first, second = (head.linear_head.weight for head in list(run.model.module.lm_head)[:2])
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    ("told", "error", "said"),
    [
        ((OWN[0],), InputError, "first_layer is 8, and .* has 4 layers"),
        ((*OWN, "model.layout=padded"), InputError, "packed rows"),
        ((*OWN, 'model.answers=["relevance"]'), CheckpointError, "'relevance' is .* tokens"),
        (("model.first_layer=2",), InputError, "follows a template"),
        ((*OWN, "model.self_distill=-1"), InputError, "self_distill"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    told: Sequence[str], error: type[Exception], said: str, prepared: Prepared, make: Make
) -> None:
    """Layers that are not there, padded rows and answers of several tokens fail before training, and say why."""
    with pytest.raises(error, match=said):
        prepared(*LAYERWISE, *told, f"model.checkpoint={make('qwen3')}")
