"""`encode_texts`: the vectors of texts of one side, for whoever keeps them in a vector store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from rerank_core.errors import InputError, one_of, short
from rerank_core.index.protocols import EncodesTexts
from rerank_core.planning.batching import batches
from rerank_core.planning.parallel import compute_all, token_budget, worker_count
from rerank_core.planning.row_plan import Rules
from rerank_core.progress import Progress
from rerank_core.scorer import NO_TOKENS, QueryRow, Row, Scorer, Tokens
from rerank_core.types import in_order

__all__ = ["encode_texts"]


def encode_texts(
    scorer: object, texts: object, side: Literal["query", "doc"], rules: Rules, name: str, progress: Progress
) -> Any:
    """The vectors of texts; see `Reranker.encode`.

    Args:
        name: the model's name, for messages.

    Raises:
        InputError: a scorer without vectors, or texts that are no list of strings.
    """
    one_of(side, ("query", "doc"), "side")
    if not isinstance(scorer, EncodesTexts) or not isinstance(scorer, Scorer):
        raise InputError(
            f"{name!r} reads query and document together, so a text alone has no vector; use rerank, or load an "
            "embedding or late-interaction model to encode texts"
        )
    strings = list(in_order(texts, "texts", "a list of strings"))
    for number, text in enumerate(strings):
        if not isinstance(text, str):
            raise InputError(f"text {number} is {short(text)}; it must be a string")
    tokens = scorer.tokenize(strings, side)
    limit = min(rules.max_length, scorer.max_positions or rules.max_length)
    if side == "query" and strings and (shortest := scorer.query_row(NO_TOKENS)) is not None:
        # Late interaction fills queries up, also to more tokens than a document may have.
        limit = max(limit, min(len(shortest.ids), scorer.max_positions or len(shortest.ids)))
    make = _document if side == "doc" else _query
    rows: list[Any] = []
    cut = []
    for number, own in enumerate(tokens):
        row, kept = make(scorer, own, limit, rules.max_query_length, number)
        rows.append(row)
        if kept < len(own):
            cut.append(number)
    if cut:
        _say_cut(name, cut, len(rows), limit)
    embeddings: list[Any] = [None] * len(rows)
    done = 0
    lengths = [len(row.ids) for row in rows]
    budget = token_budget(scorer, rules.token_budget)
    encode: Any = scorer.encode if side == "doc" else scorer.encode_queries

    def record(positions: list[int], encoded: Sequence[Any]) -> None:
        nonlocal done
        for position, embedding in zip(positions, encoded, strict=True):
            embeddings[position] = embedding
        done += len(positions)
        progress(done, len(rows))

    plan = batches(lengths, [0] * len(rows), {}, budget=budget, packed=scorer.packed, workers=worker_count(scorer))
    compute_all(scorer, plan, lambda positions: encode([rows[one] for one in positions]), record)
    return scorer.arrays(embeddings)


def _document(scorer: Scorer, doc: Tokens, limit: int, _: int | None, number: int) -> tuple[Row, int]:
    """The row of the document's first tokens that fit, and their number."""
    room = limit - scorer.overhead(NO_TOKENS, doc)
    _check_room(room, limit, number)
    kept = min(room, len(doc))
    return scorer.row(NO_TOKENS, doc, 0, kept, (0, number, 0)), kept


def _query(scorer: Scorer, query: Tokens, limit: int, most: int | None, number: int) -> tuple[QueryRow, int]:
    """The row of the query's first tokens that fit, and their number."""
    row = scorer.query_row(query)
    assert row is not None
    around = len(row.ids) - len(query) if len(row.ids) > limit else 0
    _check_room(limit - around, limit, number)
    kept = min(len(query), limit - around, most or len(query))
    if kept < len(query):
        row = scorer.query_row(query.first(kept))
        assert row is not None
    return row, kept


def _check_room(room: int, limit: int, number: int) -> None:
    if room < 1:
        raise InputError(
            f"with max_length={limit} the template's own text leaves no room for text {number}; raise max_length"
        )


def _say_cut(name: str, cut: Sequence[int], count: int, limit: int) -> None:
    import logging  # takes time to import, and most calls need it not

    logging.getLogger("rerank_core").warning(
        "%r encodes at most %d tokens: %d of %d texts are longer and were cut, the first of them text %d. Split long "
        "texts, or raise max_length where the model allows",
        name, limit, len(cut), count, cut[0],
    )  # fmt: skip
