"""What tests of embedding models share: sentence-transformers' own scores, and a decoder that ends its texts."""

from __future__ import annotations

import functools
import importlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tokenizers import Tokenizer, processors

import rerank_core
from helpers.plain import assert_close

QUERIES = ("what do pandas eat?", "熊猫吃什么")
DOCUMENTS = (
    "pandas eat bamboo", "Paris is a city.", "", " \n blank at both ends\n", "大熊猫吃竹子。",
    "a long document about fish. " * 9, "x",
)  # fmt: skip


@functools.cache
def library() -> Any:
    """sentence-transformers, which takes seconds to import."""
    return pytest.importorskip("sentence_transformers")


@functools.cache
def modules() -> Any:
    """Its modules, by class name."""
    library()
    base, own = (
        importlib.import_module(f"sentence_transformers.{name}.modules") for name in ("base", "sentence_transformer")
    )
    return SimpleNamespace(**vars(base), Pooling=own.Pooling)


def with_end(folder: Path) -> Path:
    """A decoder whose tokenizer adds the end token after each text, as Qwen3-Embedding's post-processor does."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    file = folder / "tokenizer_config.json"
    settings = json.loads(file.read_text(encoding="utf-8"))
    end = settings.get("eos_token", "<|endoftext|>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {end}", pair=f"$A {end} $B {end}", special_tokens=[(end, tokenizer.token_to_id(end))]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    file.write_text(json.dumps({**settings, "eos_token": end, "pad_token": end}), encoding="utf-8")
    return folder


def assert_as_sentence_transformers(
    name: str, folder: Path, pooling: str, *, query: str = "", document: str = "", **options: Any
) -> None:
    """A named model over the weights of a folder scores as sentence-transformers with this pooling and these prompts.

    Args:
        options: the model's own, for `load`.
    """
    body = modules().Transformer(str(folder), max_seq_length=512)
    pool = modules().Pooling(body.get_embedding_dimension(), pooling)
    model = library().SentenceTransformer(
        modules=[body, pool, modules().Normalize()],
        prompts={"query": query, "document": document},
        truncate_dim=options.get("truncate_dim"),
        device="cpu",
    )
    queries, documents = model.encode_query(list(QUERIES)), model.encode_document(list(DOCUMENTS))
    loaded = rerank_core.load(name, checkpoint=folder, device="cpu", **options)
    for text, scores in zip(QUERIES, model.similarity(queries, documents).tolist(), strict=True):
        assert max(scores) - min(scores) > 1e-3
        assert_close(scores, loaded.rerank(text, DOCUMENTS).scores())
    assert loaded.scorer.packed  # type: ignore[union-attr]
