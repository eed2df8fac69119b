"""Edge-case pairs on which a published folder must score as the model does."""

from __future__ import annotations

from bisect import bisect_right
from typing import Literal

from rerank_core import ModelSpec
from rerank_core.backends.torch.base import TorchScorer

__all__ = ["Pair", "edges"]

Pair = tuple[str, str]

_QUERY = "what does a giant panda eat in the mountains of central China? 大熊猫吃什么 "
_DOC = "The giant panda is a bear native to central China; bamboo makes up most of what it eats. 大熊猫主要吃竹子。 "


def edges(scorer: TorchScorer, spec: ModelSpec) -> list[Pair]:
    """An ordinary pair, a Chinese one, an empty document, text that spells special tokens, a document longer than a
    row, a query of the maximal length, and a longer one if the model cuts queries."""
    doc, query = _DOC.strip(), "what is a panda?"
    half = max(1, _room(scorer, spec, query, doc) // 2)
    limit = spec.max_query_length
    longest = half if limit is None else min(limit, half)
    pairs = [
        (query, doc),
        ("大熊猫吃什么？", "大熊猫每天吃很多竹子，也吃鱼、鸟和蛋。🐼"),
        (query, ""),
        (query, "[CLS] </s> <|im_end|> [SEP] <eos> yes"),
        (query, _text(scorer, _DOC, "doc", spec.max_length + spec.max_length // 4)),
        (_text(scorer, _QUERY, "query", longest), doc),
    ]
    if limit is not None and limit <= half:
        pairs.append((_text(scorer, _QUERY, "query", limit + 8), doc))
    return pairs


def _room(scorer: TorchScorer, spec: ModelSpec, query: str, doc: str) -> int:
    """Tokens of a row that query and document have together."""
    query_tokens, doc_tokens = scorer.tokenize([query], "query")[0], scorer.tokenize([doc], "doc")[0]
    row = scorer.query_row(query_tokens)
    shared = len(row.ids) if row is not None and scorer.layout == "prefix" else 0
    return spec.max_length - scorer.overhead(query_tokens, doc_tokens) - shared + len(query_tokens)


def _text(scorer: TorchScorer, sample: str, side: Literal["query", "doc"], tokens: int) -> str:
    """The sample repeated and cut to at most ``tokens`` tokens, at least one character."""
    characters = sample * (tokens // max(1, len(scorer.tokenize([sample], side)[0]) // 2) + 1)
    size = bisect_right(
        range(len(characters) + 1), tokens, key=lambda stop: len(scorer.tokenize([characters[:stop]], side)[0])
    )
    return characters[: max(1, size - 1)]
