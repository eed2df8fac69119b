"""Folders as a training run writes them before the files of other libraries: an encoder with its tokenizer and spec,
and layers after it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

import rerank_core
from rerank_core import Head, ModelSpec, write_spec
from rerank_core.backends.torch.load_weights import quiet
from rerank_core.backends.torch.side_layers.projection import Projection
from rerank_core.testing import tiny_causal_lm, tiny_encoder
from rerank_trainers.publish.folders.dense import write_projection

WIDTH = 32
QUERIES = ["what is a panda?", "熊猫吃什么", "bamboo", "  two  spaces ", "a bear of the mountains of central China"]
DOCS = ["The giant panda is a bear.", "竹子和鱼。", "", "paris", "birds, fish and eggs; bamboo! (1998)"]
PAIRS = [(query, doc) for query in QUERIES for doc in DOCS]
DECODERS = ("qwen2", "qwen3")


def layer(
    width_in: int, width: int, *, bias: bool = True, activation: str = "Identity", residual: Any = False, seed: int = 0
) -> Projection:
    """A layer with random weights."""
    draw = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=draw) * 0.3

    extra = drawn(width, width_in) if residual == "linear" else residual
    weight = drawn(width, width_in)
    return Projection("a test", width_in, weight, drawn(width) if bias else None, activation=activation, residual=extra)


def encoder(folder: Path, family: str, tokenizer: Path | None = None) -> Path:
    """An encoder (``bert``, ``xlm-roberta``, ``modernbert``) or a decoder without its output layer, whose tokenizer
    puts an end token behind every text.

    Args:
        tokenizer: a folder with the tokenizer of an encoder; by default a tiny one.
    """
    if family in DECODERS:
        tiny_causal_lm(folder, family, std=0.2)
        file = folder / "tokenizer.json"
        tokenizer = json.loads(file.read_text(encoding="utf-8"))
        end = next(token for token in tokenizer["added_tokens"] if token["content"] == "<|endoftext|>")
        tokenizer["post_processor"] = {
            "type": "TemplateProcessing",
            "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "end", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {"end": {"id": "end", "ids": [end["id"]], "tokens": [end["content"]]}},
        }
        file.write_text(json.dumps(tokenizer), encoding="utf-8")
        _save(transformers.AutoModel.from_pretrained(str(folder), dtype=torch.float32), folder)
        (folder / "generation_config.json").unlink(missing_ok=True)
    elif family == "modernbert":
        tiny_encoder(folder, "bert", std=0.3)
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        settings = transformers.AutoConfig.for_model(
            "modernbert", vocab_size=config["vocab_size"], hidden_size=WIDTH, num_hidden_layers=3, pad_token_id=0,
            num_attention_heads=2, intermediate_size=64, local_attention=16, global_attn_every_n_layers=2,
            cls_token_id=2, sep_token_id=3, bos_token_id=2, eos_token_id=3,
        )  # fmt: skip
        torch.manual_seed(0)
        module = transformers.AutoModel.from_config(settings)
        for weight in module.parameters():
            if weight.dim() > 1:
                torch.nn.init.normal_(weight, std=0.3)
        _save(module, folder)
        file = folder / "tokenizer_config.json"
        said = json.loads(file.read_text(encoding="utf-8")) | {"model_input_names": ["input_ids", "attention_mask"]}
        file.write_text(json.dumps(said), encoding="utf-8")
    else:
        tiny_encoder(folder, family, tokenizer=tokenizer, std=0.3)  # type: ignore[arg-type]
    return folder


def published(
    folder: Path,
    family: str,
    head: Head,
    layers: Sequence[torch.nn.Module] = (),
    names: Sequence[str] = (),
    *,
    tokenizer: Path | None = None,
    **more: Any,
) -> ModelSpec:
    """Write the encoder, the layers and ``reranker.json``; return the spec that they are loaded with."""
    encoder(folder, family, tokenizer)
    write_projection(folder, layers, names)
    write_spec(ModelSpec("tiny", head=head, **{"max_length": 128, **more}), folder)
    with rerank_core.load(folder, device="cpu") as reranker:
        return reranker.spec


def add_tokens(folder: Path, *tokens: str) -> None:
    """Give tokens of the vocabulary that no text contains another name, such as ``[unused0]``."""
    file = folder / "tokenizer.json"
    saved = json.loads(file.read_text(encoding="utf-8"))
    vocabulary = saved["model"]["vocab"]
    added = {token["content"] for token in saved["added_tokens"]}
    old = [token for token in vocabulary if token.startswith("##") and token not in added][-len(tokens) :]
    renamed = dict(zip(old, tokens, strict=True))
    saved["model"]["vocab"] = {renamed.get(token, token): number for token, number in vocabulary.items()}
    file.write_text(json.dumps(saved), encoding="utf-8")


def our_vectors(folder: Path, texts: Sequence[str], side: str) -> list[torch.Tensor]:
    """The vectors of texts, ``[vectors, width]`` each, as rerank-core computes them from the folder."""
    with rerank_core.load(folder, device="cpu") as reranker:
        scorer: Any = reranker.scorer
        tokens = scorer.tokenize(list(texts), side)
        if side == "query":
            embeddings = scorer.encode_queries([scorer.query_row(one) for one in tokens])
        else:
            embeddings = scorer.encode([scorer.row(one, one, 0, len(one), (0, 0, 0)) for one in tokens])
    return [next(iter(embedding.values())) for embedding in embeddings]


def our_scores(folder: Path, pairs: Sequence[tuple[str, str]] = PAIRS) -> list[float]:
    """Raw scores of rerank-core."""
    with rerank_core.load(folder, device="cpu") as reranker:
        return reranker.score(pairs)


def _save(module: Any, folder: Path) -> None:
    with quiet():
        module.save_pretrained(str(folder))
