"""``compat=``: the truncation, layout and budget of an original framework, as data, so that its scores come out.

Facts of each by reading and running it: FlagEmbedding 1.4, RAG-Retrieval 0.2.2, BCEmbedding 0.1.5; `make parity` runs
them beside ours. What they lose, renumber or refuse is not copied.
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
    """One way of a framework to make rows of texts.

    Attributes:
        query_share: the query is cut to ``max_length * a // b`` tokens, for ``(a, b)``.
        longest_first: query and document are cut together, as Hugging Face's ``truncation=True`` does.
        stacked: rows are the query's own row, then separator, passage, separator. Equal to the pair layout where
            that has two separators between the texts (XLM-R); on BERT one more.
        max_chars: characters that are read of a document.
        count_literal_text: the literal text of a piece counts: to the query's share, and in the document's piece, which
            is cut to ``max_length``.
        extra_budget: parts of the template that are added to ``max_length``, each as often as it is named.
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
    """A framework: ``pairs`` is how its ``compute_score`` reads texts, ``lists`` how its ``rerank`` does."""

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
        # RAG-Retrieval's cross-encoder took BCEmbedding's long-passage code over unchanged.
        "rag-retrieval": _YOUDAO,
        "bcembedding": _YOUDAO,
    }
}
"""By kind of head, then by what ``compat=`` says; a model may bring its own (`ModelSpec.compat`)."""
