"""``compat=``: the truncation, layout and token budget of another framework, as data, to reproduce its scores.

The rules come from reading and running FlagEmbedding 1.4, RAG-Retrieval 0.2.2 and BCEmbedding 0.1.5; `make parity`
compares their scores with ours. Their bugs that lose, renumber or refuse documents are not copied.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from rerank_core.planning.longdoc import FirstP, LongDoc, MaxP
from rerank_core.spec.head import HeadKind

__all__ = ["PROFILES", "CompatProfile", "CompatRules"]


@dataclass(frozen=True)
class CompatRules:
    """The rules by which a framework makes rows of texts.

    Attributes:
        query_share: ``(a, b)``: the query is cut to ``max_length * a // b`` tokens.
        longest_first: query and document are cut together, as Hugging Face's ``truncation=True`` does.
        stacked: a row is the query in the tokenizer's single layout, then separator, passage, separator. This equals
            the pair layout where that has two separators between the texts (XLM-R); BERT's has one separator less.
        max_chars: only this many characters of a document are read.
        count_literal_text: the literal text of a piece counts: in the query's share, and in the document's piece, which
            is cut to ``max_length``.
        extra_budget: parts of the template whose tokens are added to ``max_length``, once per mention.
    """

    longdoc: LongDoc
    query_share: tuple[int, int] | None = None
    longest_first: bool = False
    stacked: bool = False
    max_chars: int | None = None
    count_literal_text: bool = False
    extra_budget: tuple[Literal["before", "between", "after"], ...] = ()


@dataclass(frozen=True)
class CompatProfile:
    """The rules of a framework: ``pairs`` of its ``compute_score``, ``lists`` of its ``rerank``."""

    pairs: CompatRules
    lists: CompatRules


_FLAG = CompatRules(FirstP(), query_share=(3, 4))
_YOUDAO = CompatProfile(
    pairs=CompatRules(FirstP(), longest_first=True),
    lists=CompatRules(MaxP(), stacked=True, max_chars=128_000),
)

PROFILES: Mapping[HeadKind, Mapping[str, CompatProfile]] = {
    "classifier": {
        "flagembedding": CompatProfile(pairs=_FLAG, lists=_FLAG),
        # RAG-Retrieval's cross-encoder contains an unchanged copy of BCEmbedding's long-passage code.
        "rag-retrieval": _YOUDAO,
        "bcembedding": _YOUDAO,
    }
}
"""By kind of head, then by the name given to ``compat=``; `ModelSpec.compat` adds profiles of one model."""
