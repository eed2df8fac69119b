"""BGE's causal rerankers: layers, cascade, compression, and checkpoints under their official names."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from bge_tensors import GEMMA, LIGHTWEIGHT, MINICPM, tensors, write

import rerank_core
from rerank_core import CheckpointError, InputError, Reranker
from rerank_core.testing import ScorerConformance
from rerank_core.testing.decoders import write_tokenizer

SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "max_position_embeddings": 1024}
KINDS: dict[str, tuple[dict[str, Any], str]] = {
    "bge-llm-gemma": ({**GEMMA, **SMALL, "head_dim": 8, "num_hidden_layers": 3}, "gemma"),
    "bge-llm-layerwise": ({**MINICPM, **SMALL, "num_key_value_heads": 4, "num_hidden_layers": 14}, "sentencepiece"),
    "bge-llm-lightweight": (
        {
            **LIGHTWEIGHT, **SMALL, "head_dim": 8, "num_key_value_heads": 2, "num_hidden_layers": 12,
            "query_pre_attn_scalar": 8, "sliding_window": 32, "attn_logit_softcapping": 2.0,
        },
        "gemma",
    ),
}  # fmt: skip
OPTIONS: dict[str, dict[str, Any]] = {
    "bge-llm-gemma": {},
    "bge-llm-layerwise": {"layer": 8},
    "bge-llm-lightweight": {"layer": 9, "compress_layers": [8]},
}
QUERY = "what does a panda eat?"
DOCS = [
    "Pandas eat bamboo for most of the day.",
    "a",
    "",
    "大熊猫吃竹子。",
    "what is the answer? " * 9,
    "bear " * 40,
    "paris",
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    ready: dict[str, Path] = {}

    def of(name: str) -> Path:
        if name not in ready:
            directory = tmp_path_factory.mktemp(name)
            config, tokenizer = KINDS[name]
            kind: Any = tokenizer
            write(directory, {**config, "vocab_size": write_tokenizer(directory, kind)})
            ready[name] = directory
        return ready[name]

    return of


@pytest.fixture(scope="module")
def alone(made: Callable[[str], Path]) -> Callable[[int], list[float]]:
    """Scores of `DOCS` by a layerwise model that is loaded for one layer."""
    return functools.cache(lambda layer: load(made, "bge-llm-layerwise", layer=layer).rerank(QUERY, DOCS).scores())


def load(made: Callable[[str], Path], name: str, **more: Any) -> Reranker:
    options = {"max_length": 256, **OPTIONS[name], **more}
    return rerank_core.load(name, checkpoint=made(name), device="cpu", **options)


@contextmanager
def running(reranker: Reranker) -> Iterator[list[tuple[int, int]]]:
    """Which layers run, each with the tokens it computes."""
    seen: list[tuple[int, int]] = []
    scorer: Any = reranker.scorer
    hooks = [
        layer.mlp.register_forward_pre_hook(lambda _, args, number=number: seen.append((number, args[0].shape[-2])))
        for number, layer in enumerate(scorer.module.layers)
    ]
    yield seen
    for hook in hooks:
        hook.remove()


def near(expected: list[float], found: list[float]) -> None:
    assert max(abs(a - b) / max(1.0, abs(a)) for a, b in zip(expected, found, strict=True)) <= 1e-5


@pytest.fixture(scope="module", params=list(KINDS))
def reranker(request: pytest.FixtureRequest, made: Callable[[str], Path]) -> Reranker:
    return load(made, request.param)


class TestBgeLlm(ScorerConformance):
    """The conformance suite over a tiny checkpoint of each, under the official names."""


@pytest.mark.parametrize("config", [GEMMA, MINICPM, LIGHTWEIGHT], ids=lambda config: config["model_type"])
def test_the_modules_have_the_official_shapes(config: dict[str, Any], tmp_path: Path) -> None:
    """At full size, on no memory at all: what is loaded is what is written down, tensor by tensor."""
    from transformers import AutoModel, GemmaConfig

    from rerank_bge.lightweight import gemma2
    from rerank_bge.minicpm import granite

    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    readers: dict[str, Callable[[Path], Any]] = {"minicpm": granite, "cost_wise_gemma": gemma2}
    kind = config["model_type"]
    made = readers[kind](tmp_path) if kind in readers else GemmaConfig(**config)
    with torch.device("meta"):
        module = AutoModel.from_config(made)
    expected = {name.removeprefix("model."): shape for name, shape in tensors(config).items() if "lm_head" not in name}
    assert {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()} == expected


@pytest.mark.parametrize("layer", [8, 9, 14])
def test_layers_above_are_neither_loaded_nor_run(layer: int, made: Callable[[str], Path]) -> None:
    reranker = load(made, "bge-llm-layerwise", layer=layer)
    scorer: Any = reranker.scorer
    assert len(scorer.module.layers) == layer
    with running(reranker) as seen:
        tokens = reranker.rerank(QUERY, DOCS).usage.tokens
    assert seen == [*((number, tokens) for number in range(layer - 1)), (layer - 1, len(DOCS))]


def test_several_layers_cost_the_deepest(made: Callable[[str], Path], alone: Callable[[int], list[float]]) -> None:
    """Any order gives each layer's own score; the last listed ranks."""
    for layers in ([8, 11, 13], [13, 8, 11]):
        reranker = load(made, "bge-llm-layerwise", layer=layers)
        with running(reranker) as seen:
            ranking = reranker.rerank(QUERY, DOCS)
        assert [number for number, _ in seen] == list(range(13))
        near(alone(layers[-1]), list(ranking.scores()))
        hits = sorted(ranking, key=lambda hit: hit.index)
        for layer in layers:
            near(alone(layer), [hit.scores[f"layer_{layer}"] for hit in hits])


@pytest.mark.parametrize(
    ("cascade", "budget"), [({8: 3}, None), ({8: 5, 10: 2}, 1), ({8: 5, 10: 2}, 90), ({9: 100}, None)]
)
def test_survivors_of_a_cascade_score_as_if_run_directly(
    cascade: dict[int, int], budget: int | None, made: Callable[[str], Path], alone: Callable[[int], list[float]]
) -> None:
    """From their stored state, in batches of any size; a later stage always ranks above an earlier one."""
    more = {} if budget is None else {"token_budget": budget}
    reranker = load(made, "bge-llm-layerwise", layer=13, **more)
    layers = [*cascade, 13]
    requests = [(QUERY, DOCS), ("bears", DOCS[::-1])]
    direct = reranker.rerank_many(requests)
    for ranking, plain in zip(reranker.rerank_many(requests, cascade=cascade), direct, strict=True):
        hits = list(ranking)
        assert sorted(hit.index for hit in hits) == list(range(len(DOCS)))
        assert [hit.stage for hit in hits] == sorted((hit.stage for hit in hits), reverse=True)
        reached = [sum(hit.stage >= stage for hit in hits) for stage in range(len(layers))]
        assert reached == [len(DOCS), *(min(keep, len(DOCS)) for keep in cascade.values())]
        last = [hit for hit in hits if hit.stage == len(cascade)]
        near([plain.scores()[hit.index] for hit in last], [hit.score for hit in last])
    for hit in reranker.rerank(QUERY, DOCS, cascade=cascade):
        near(
            [alone(layer)[hit.index] for layer in layers[: hit.stage + 1]],
            [hit.scores[f"layer_{n}"] for n in layers[: hit.stage + 1]],
        )
        best = sorted(range(len(DOCS)), key=lambda doc: -alone(layers[0])[doc])[: next(iter(cascade.values()))]
        assert (hit.stage > 0) == (hit.index in best)


def test_a_cascade_computes_only_its_survivors(made: Callable[[str], Path]) -> None:
    reranker = load(made, "bge-llm-layerwise", layer=13)
    with running(reranker) as seen:
        everything = reranker.rerank(QUERY, DOCS, cascade={8: 2}).usage.tokens
    scorer: Any = reranker.scorer
    best = [hit.index for hit in reranker.rerank(QUERY, DOCS, cascade={8: 2}) if hit.stage]
    rows = scorer.tokenize([DOCS[index] for index in best], "doc")
    fewer = len(scorer.query_row(scorer.tokenize([QUERY], "query")[0]).ids)
    fewer += sum(scorer.overhead(row, row) + len(row) for row in rows)
    assert seen == [*((n, everything) for n in range(8)), *((n, fewer) for n in range(8, 12)), (12, 2)]


def test_a_cascade_survives_a_batch_that_does_not_fit(
    made: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Halves of a batch keep the state of their rows."""
    reranker = load(made, "bge-llm-layerwise", layer=13)
    expected = reranker.rerank(QUERY, DOCS, cascade={8: 3})
    own: Any = reranker.scorer
    start = own.runner.start

    def tight(prefixes: Any, rows: Any, owners: Any, segments: Any) -> Any:
        if len(rows) > 2:
            raise torch.OutOfMemoryError("a test's memory")
        return start(prefixes, rows, owners, segments)

    monkeypatch.setattr(own.runner, "start", tight)
    found = reranker.rerank(QUERY, DOCS, cascade={8: 3})
    assert [(hit.index, hit.stage) for hit in found] == [(hit.index, hit.stage) for hit in expected]
    near([hit.score for hit in expected], [hit.score for hit in found])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"layer": 7}, "scores at layers 8 to 14"),
        ({"layer": [8, 15]}, "scores at layers 8 to 14"),
        ({"layer": 12, "cascade": {12: 3}}, "below the last"),
        ({"layer": 12, "cascade": {7: 3}}, "scores at layers 8 to 14"),
        ({"layer": [12, 8], "cascade": {9: 3}}, "list it last"),
        ({"layer": "deep"}, "an integer or a list"),
        ({"layer": 12, "cascade": {8: 0}}, "positive integers"),
    ],
)
def test_layers_that_cannot_be_are_refused(options: dict[str, Any], said: str, made: Callable[[str], Path]) -> None:
    with pytest.raises(InputError, match=said):
        load(made, "bge-llm-layerwise", **options)


def test_compression_is_counted(made: Callable[[str], Path]) -> None:
    """The rows get shorter by their document's part, the prefix and the prompt do not."""
    reranker = load(made, "bge-llm-lightweight", layer=11, compress_layers=[2, 4], compress_ratio=2)
    scorer: Any = reranker.scorer
    tokens = scorer.tokenize(DOCS, "doc")
    prefix = len(scorer.query_row(scorer.tokenize([QUERY], "query")[0]).ids)
    segments = [len(row.lead) + len(row) + len(row.tail) for row in tokens]
    after = scorer.parts["after"]
    with running(reranker) as seen:
        reranker.rerank(QUERY, DOCS)
    expected = []
    for _ in range(3):
        expected.append(prefix + sum(segments) + len(DOCS) * after)
        segments = [-(-count // 2) for count in segments]
    assert seen == [(n, expected[0 if n < 2 else 1 if n < 4 else 2]) for n in range(10)] + [(10, len(DOCS))]


@pytest.mark.parametrize(
    ("name", "without"), [("bge-llm-layerwise", "lm_head.3."), ("bge-llm-lightweight", "layers.5.mlp")]
)
def test_missing_weights_are_named(name: str, without: str, tmp_path: Path) -> None:
    config, tokenizer = KINDS[name]
    kind: Any = tokenizer
    write(tmp_path, {**config, "vocab_size": write_tokenizer(tmp_path, kind)}, without=without)
    with pytest.raises(CheckpointError, match=without.rstrip(".").replace(".", r"\.")):
        rerank_core.load(name, checkpoint=tmp_path, device="cpu", layer=12 if "layerwise" in name else 10)
