"""What a causal checkpoint must hold, and what ranking with it costs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from backends.plain import DOCUMENTS, QUERIES, PlainCausal, assert_close
from backends.test_decoder import SPEC, load, pieces, scorer
from rerank_core import CheckpointError, Head, ModelSpec, Template
from rerank_core.testing import tiny_causal_lm


def test_shards_are_read_and_a_missing_output_layer_is_named(tmp_path: Path) -> None:
    """An untied output layer of which two rows are read, in whichever file it is."""
    directory = tiny_causal_lm(
        tmp_path / "a", "llama", tokenizer="sentencepiece", shards=True, tie_word_embeddings=False
    )
    assert len(list(directory.glob("model-*.safetensors"))) > 1
    plain = PlainCausal(directory)
    expected = [plain.score(pieces(plain, QUERIES[0], text), "yes", "no") for text in DOCUMENTS]
    assert_close(expected, load(directory).rerank(QUERIES[0], DOCUMENTS).scores())

    base = tiny_causal_lm(tmp_path / "b", "llama")
    file = base / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "tie_word_embeddings": False}), encoding="utf-8")
    held = load_file(base / "model.safetensors")
    save_file(
        {name: held[name] for name in held if "lm_head" not in name}, base / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(CheckpointError, match=r"no lm_head\.weight"):
        load(base)


def test_a_label_of_several_tokens_is_refused(tmp_path: Path) -> None:
    spec = ModelSpec(**{**vars(SPEC), "head": Head.last_token("certainly")})
    with pytest.raises(CheckpointError, match="'certainly' is 8 tokens"):
        load(tiny_causal_lm(tmp_path), spec)


@pytest.mark.data
def test_a_hundred_passages_cost_hardly_more_than_their_tokens(tmp_path: Path, data: Path) -> None:
    """Within 1 % of the least there is, one prefix and a hundred rows (DL19, Qwen's tokenizer, a long template)."""
    directory = tiny_causal_lm(tmp_path, "qwen3", tokenizer=data / "tokenizers" / "qwen", layers=1, hidden=8)
    spec = ModelSpec(**{**vars(SPEC), "template": Template(before="Judge whether it is. " * 10, query="Q: {query}")})
    lists = json.loads((data / "en_trecdl" / "bm25" / "dl19.retrieve_results_top100.json").read_text(encoding="utf-8"))
    reranker = load(directory, spec)
    computed: list[int] = []
    scorer(reranker).module.embed_tokens.register_forward_pre_hook(lambda _, args: computed.append(args[0].numel()))
    for entry in lists[:3]:
        computed.clear()
        ranking = reranker.rerank(entry["query"], [hit["content"] for hit in entry["hits"]])
        assert len(ranking) == 100
        assert sum(computed) <= 1.01 * (ranking.usage.tokens or 0)
