"""BGE's causal rerankers: FlagEmbedding and RAG-Retrieval live beside ours, on tiny checkpoints of theirs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rerank_core
from helpers.plain import PARAGRAPH, assert_close
from parity.conftest import Originals
from parity.texts import LONG_QUERY, Case, cases
from rerank_core import Reranker
from rerank_core.testing.decoders import tiny_causal_lm, write_tokenizer

LENGTH = 256
MINICPM = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 6, "num_attention_heads": 4,
    "max_position_embeddings": 2048, "initializer_range": 0.3, "scale_emb": 12, "scale_depth": 1.4,
    "dim_model_base": 8, "start_layer": 2, "head_multi": True, "head_type": "simple", "bos_token_id": 1,
    "eos_token_id": 2, "tie_word_embeddings": False,
}  # fmt: skip
GEMMA2 = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 6, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 64,
    "attn_logit_softcapping": 2.0, "final_logit_softcapping": 30.0, "max_position_embeddings": 2048,
    "initializer_range": 0.3, "start_layer": 2, "layer_sep": 1, "layer_wise": True, "pad_token_id": 0,
    "bos_token_id": 2, "eos_token_id": 1,
}  # fmt: skip


@pytest.fixture(scope="session")
def asked() -> list[Case]:
    folder = os.environ.get("RERANK_DATA")
    return list(cases(Path(folder) if folder else None))


@pytest.fixture(scope="session")
def made(originals: Originals, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """A random checkpoint that the original's own class wrote, with a tokenizer as that family's."""
    folder = tmp_path_factory.mktemp("decoders")
    ready: dict[tuple[str, str], Path] = {}

    def of(kind: str, tokenizer: str) -> Path:
        if (kind, tokenizer) in ready:
            return ready[kind, tokenizer]
        # RAG-Retrieval looks for "layerwise" in the path.
        directory = folder / f"{kind}-{Path(tokenizer).name}"
        if kind == "plain":
            gemma: Any = tokenizer
            tiny_causal_lm(directory, "gemma", tokenizer=gemma, hidden=32)
        else:
            of_kind: Any = tokenizer
            size = write_tokenizer(directory, of_kind)
            config = {**(MINICPM if kind == "layerwise" else GEMMA2), "vocab_size": size}
            answer = originals.send(entry="make", kind=kind, config=config, directory=str(directory))
            assert "tensors" in answer, answer
        file = directory / "tokenizer_config.json"
        settings = json.loads(file.read_text(encoding="utf-8"))
        # What the published tokenizers say: where padding goes, and what it is made of.
        defaults = {"padding_side": "left", "pad_token": settings.get("unk_token")}
        file.write_text(json.dumps({**defaults, **settings}), encoding="utf-8")
        ready[kind, tokenizer] = directory
        return directory

    return of


NAMES = {"plain": "bge-llm-gemma", "layerwise": "bge-llm-layerwise", "lightweight": "bge-llm-lightweight"}


def ours(kind: str, directory: Path, **options: Any) -> Reranker:
    return rerank_core.load(NAMES[kind], checkpoint=directory, device="cpu", max_length=LENGTH, **options)


def theirs(originals: Originals, kind: str, directory: Path, case: Case, framework: str, **more: Any) -> list[Any]:
    answer = originals.send(
        entry="causal", framework=framework, kind=kind, directory=str(directory), query=case.query, docs=case.docs,
        max_length=LENGTH, more=more,
    )  # fmt: skip
    assert "scores" in answer, answer
    scores: list[Any] = answer["scores"]
    return scores


def pairs(case: Case) -> list[tuple[str, object]]:
    return [(case.query, doc) for doc in case.docs]


@pytest.mark.parametrize("framework", ["flagembedding", "rag-retrieval"])
@pytest.mark.parametrize("tokenizer", ["gemma", "sentencepiece"])
def test_gemma_equals_compute_score(
    framework: str, tokenizer: str, originals: Originals, made: Callable[[str, str], Path], asked: list[Case]
) -> None:
    """Long passages and queries too: the budgets of the two differ. The separator is one token, or two."""
    directory = made("plain", tokenizer)
    reranker = ours("plain", directory, compat=framework)
    for case in asked:
        assert_close(theirs(originals, "plain", directory, case, framework), reranker.score(pairs(case)))


@pytest.mark.parametrize("layer", [2, 3, 4, 5, 6])
def test_layerwise_equals_compute_score_at_every_layer(
    layer: int, originals: Originals, made: Callable[[str, str], Path], asked: list[Case]
) -> None:
    directory = made("layerwise", "sentencepiece")
    reranker = ours("layerwise", directory, compat="flagembedding", layer=layer)
    for case in asked if layer in (3, 6) else asked[:2]:
        scores = theirs(originals, "layerwise", directory, case, "flagembedding", cutoff_layers=[layer])
        assert_close(scores, reranker.score(pairs(case)))


def test_several_layers_equal_each_alone_in_any_order(
    originals: Originals, made: Callable[[str, str], Path], asked: list[Case]
) -> None:
    """FlagEmbedding gives a list for each layer, lowest first; ours ranks by the last listed and holds them all."""
    directory = made("layerwise", "sentencepiece")
    case = asked[0]
    expected = theirs(originals, "layerwise", directory, case, "flagembedding", cutoff_layers=[2, 4, 6])
    for layers in ([2, 4, 6], [6, 2, 4]):
        ranking = ours("layerwise", directory, compat="flagembedding", layer=layers).rerank(case.query, case.docs)
        hits = sorted(ranking, key=lambda hit: hit.index)
        for layer, scores in zip((2, 4, 6), expected, strict=True):
            assert_close(scores, [hit.scores[f"layer_{layer}"] for hit in hits])
        assert ranking.scores() == [hit.scores[f"layer_{layers[-1]}"] for hit in hits]


@pytest.mark.parametrize("ratio", [1, 2, 4, 8])
@pytest.mark.parametrize(
    ("layers", "compressed"), [((5,), (2,)), ((6,), (3, 5)), ((3, 5), (2,)), ((2, 3, 6), (3, 4)), ((6,), (0, 1))]
)
def test_lightweight_equals_compute_score(
    ratio: int,
    layers: tuple[int, ...],
    compressed: tuple[int, ...],
    originals: Originals,
    made: Callable[[str, str], Path],
    asked: list[Case],
) -> None:
    """Every ratio, compression at one layer and at several, one cutoff and many: heads in FlagEmbedding's order."""
    directory = made("lightweight", "gemma")
    reranker = ours(
        "lightweight", directory, compat="flagembedding", layer=layers, compress_layers=compressed, compress_ratio=ratio
    )
    for case in asked[:3]:
        scores = theirs(
            originals, "lightweight", directory, case, "flagembedding", cutoff_layers=list(layers),
            compress_layers=list(compressed), compress_ratio=ratio,
        )  # fmt: skip
        hits = sorted(reranker.rerank(case.query, case.docs), key=lambda hit: hit.index)
        for layer, expected in zip(layers, scores if len(layers) > 1 else [scores], strict=True):
            name = "score" if len(layers) == 1 else f"layer_{layer}"
            assert_close(expected, [hit.scores[name] for hit in hits])


def test_the_cap_on_attention_is_ours_alone(originals: Originals, made: Callable[[str, str], Path]) -> None:
    """config.json asks for it, and SDPA, on which FlagEmbedding runs the model, has none."""
    directory = made("lightweight", "gemma")
    case = Case("short", "what?", ["a bear", PARAGRAPH, "paris"])
    more = {"layer": 5, "compress_layers": [2], "compress_ratio": 2}
    scores = theirs(
        originals, "lightweight", directory, case, "flagembedding", cutoff_layers=[5], compress_layers=[2],
        compress_ratio=2,
    )  # fmt: skip
    assert_close(scores, ours("lightweight", directory, compat="flagembedding", **more).score(pairs(case)))
    default = ours("lightweight", directory, **more).score(pairs(case))
    assert max(abs(a - b) for a, b in zip(scores, default, strict=True)) > 1e-3


def test_each_layers_own_head_is_another_score(made: Callable[[str, str], Path]) -> None:
    """`head_index="layer"` gives a layer the head it was trained with; alone, FlagEmbedding gives it the first."""
    directory = made("lightweight", "gemma")
    docs = ["a bear", PARAGRAPH, "paris"]
    own = ours("lightweight", directory, layer=4, head_index="layer").rerank("what?", docs).scores()
    ordinal = ours("lightweight", directory, layer=4).rerank("what?", docs).scores()
    among = ours("lightweight", directory, layer=[2, 3, 4]).rerank("what?", docs)
    assert max(abs(a - b) for a, b in zip(own, ordinal, strict=True)) > 1e-3
    assert_close(own, among.scores())


# ---------------------------------------------------------------------- the differences that docs/longdoc.md lists
@pytest.mark.parametrize("framework", ["flagembedding", "rag-retrieval"])
def test_our_default_reads_the_whole_document_and_the_whole_query(
    framework: str, originals: Originals, made: Callable[[str, str], Path]
) -> None:
    """They read the beginning; every window of ours is a row of its own, and only a budget cuts a query."""
    directory = made("plain", "gemma")
    hit = ours("plain", directory).rerank("where?", [PARAGRAPH * 30])[0]
    assert len(hit.passages) > 2
    assert hit.passages[-1].stop == len(PARAGRAPH * 30)
    (score,) = theirs(originals, "plain", directory, Case("long", "where?", [PARAGRAPH * 30]), framework)
    assert abs(score - hit.passages[0].score) > 1e-4
    with pytest.raises(rerank_core.InputError, match="max_query_length"):
        ours("plain", directory).rerank(LONG_QUERY.query, ["a bear"])
    assert ours("plain", directory, compat=framework).rerank(LONG_QUERY.query, ["a bear"]).query_truncated
