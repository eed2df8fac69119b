"""The files that a causal checkpoint needs, and the number of tokens that ranking with it computes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from helpers.models.causal import PROMPT, SPEC, load, pieces, scorer
from helpers.plain import DOCUMENTS, QUERIES, PlainCausal, assert_close
from rerank_core import CheckpointError, Head, ModelSpec, Reranker, Template
from rerank_core.backends.torch import scorer_of
from rerank_core.testing import tiny_causal_lm


def test_shards_are_read_and_a_missing_output_layer_is_named(tmp_path: Path) -> None:
    """Two rows of an untied output layer are read, from any shard."""
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
    """At most 1 % more tokens than the minimum, one prefix and 100 rows (DL19, Qwen's tokenizer, a long template)."""
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


@pytest.mark.data
@pytest.mark.parametrize(("name", "family"), [("llama2", "llama"), ("llama3", "gemma"), ("qwen", "llama")])
def test_real_tokenizers_piece_by_piece(name: str, family: str, tmp_path: Path, data: Path) -> None:
    """Ids are those of each piece alone, with a separator of two tokens (Llama 2) or one, and so are the scores."""
    bos = {"llama2": "<s>", "llama3": "<|begin_of_text|>", "qwen": None}[name]
    directory = tiny_causal_lm(tmp_path, family, tokenizer=data / "tokenizers" / name, hidden=16, layers=2)
    file = directory / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "bos_token": bos}), encoding="utf-8")
    raw = Tokenizer.from_file(str(directory / "tokenizer.json"))

    def ids(text: str) -> list[int]:
        found: list[int] = raw.encode(text, add_special_tokens=False).ids
        return found

    assert len(ids("\n")) == (2 if name == "llama2" else 1)
    reranker = load(directory)
    own: Any = reranker.scorer
    model = AutoModelForCausalLM.from_pretrained(str(directory), dtype=torch.float32).eval()
    rows, expected = [], []
    for text in DOCUMENTS:
        (query,), (doc,) = own.tokenize([QUERIES[0]], "query"), own.tokenize([text], "doc")
        rows.append([*own.query_row(query).ids, *own.row(query, doc, 0, len(doc), (0, 0, 0)).ids])
        texts = [*([bos] if bos else []), f"A: {QUERIES[0]}", "\n", f"B: {text}", "\n", PROMPT]
        whole = [id_ for piece in texts for id_ in ids(piece)]
        assert rows[-1] == whole
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([whole])).logits[0, -1]
        expected.append(float(logits[ids("yes")[0]] - logits[ids("no")[0]]))
    assert_close(expected, reranker.rerank(QUERIES[0], DOCUMENTS).scores())


@pytest.mark.parametrize("family", ["qwen2", "gemma2"])
def test_a_live_module_scores_with_the_weights_it_has_now(family: str, tmp_path: Path) -> None:
    """Trainers evaluate the causal model itself: its output layer is read at each call, not at load."""
    plain = PlainCausal(tiny_causal_lm(tmp_path, family, tie_word_embeddings=False))
    spec = ModelSpec(name="live", template=Template(query="Q: {query}", between="\n", doc="D: {doc}"), head=SPEC.head)
    live = Reranker.from_scorer(scorer_of(plain.model, plain.tokenizer, spec), spec)
    for _ in range(2):
        texts = [[f"Q: {QUERIES[0]}", "\n", f"D: {doc}"] for doc in DOCUMENTS]
        assert_close([plain.score(row, "yes", "no") for row in texts], live.rerank(QUERIES[0], DOCUMENTS).scores())
        with torch.no_grad():
            plain.model.lm_head.weight.mul_(-0.5)
