"""``compat=``: the truncation, layout and budget of an original framework, copied so that its scores come out.

Facts of each by reading and running it: FlagEmbedding 1.4, RAG-Retrieval 0.2.2, BCEmbedding 0.1.5; `make parity` runs
them beside ours. What they lose, renumber or refuse is not copied.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from rerank_core.errors import InputError
from rerank_core.longdoc import FirstP, LongDoc, MaxP
from rerank_core.rows import Rules
from rerank_core.spec import HeadKind, ModelSpec

__all__ = ["PROFILES", "Manner", "Profile", "profile_of"]


@dataclass(frozen=True)
class Manner:
    """One way of a framework to make rows of texts.

    Attributes:
        query_share: the query is cut to ``max_length * a // b`` tokens, for ``(a, b)``.
        longest_first: query and document are cut together, as Hugging Face's ``truncation=True`` does.
        stacked: rows are the query's own row, then separator, passage, separator. Equal to the pair layout where
            that has two separators between the texts (XLM-R); on BERT one more.
        max_chars: characters that are read of a document.
    """

    longdoc: LongDoc
    query_share: tuple[int, int] | None = None
    longest_first: bool = False
    stacked: bool = False
    max_chars: int | None = None

    def rules(self, rules: Rules) -> Rules:
        """The rules of a call, in this manner. A ``max_query_length`` that the caller set wins over the share."""
        limit = rules.max_query_length
        if limit is None and self.query_share is not None:
            limit = rules.max_length * self.query_share[0] // self.query_share[1]
        return replace(
            rules,
            longdoc=self.longdoc,
            max_query_length=limit,
            longest_first=self.longest_first,
            stacked=self.stacked,
            max_chars=self.max_chars,
        )


@dataclass(frozen=True)
class Profile:
    """A framework: ``pairs`` is how its ``compute_score`` reads texts, ``lists`` how its ``rerank`` does."""

    pairs: Manner
    lists: Manner


_FLAG = Manner(FirstP(), query_share=(3, 4))
_YOUDAO = Profile(
    pairs=Manner(FirstP(), longest_first=True),
    lists=Manner(MaxP(), stacked=True, max_chars=128_000),
)

PROFILES: Mapping[HeadKind, Mapping[str, Profile]] = {
    "classifier": {
        "flagembedding": Profile(pairs=_FLAG, lists=_FLAG),
        # RAG-Retrieval's cross-encoder took BCEmbedding's long-passage code over unchanged.
        "rag-retrieval": _YOUDAO,
        "bcembedding": _YOUDAO,
    }
}
"""By kind of head, then by what ``compat=`` says."""


def profile_of(spec: ModelSpec, compat: str | None) -> Profile | None:
    """The profile that ``compat=`` names for a model.

    Raises:
        InputError: no such framework, or none that reads this kind of model.
    """
    if compat is None:
        return None
    known = PROFILES.get(spec.head.kind, {}) if spec.head is not None else {}
    if compat not in known:
        valid = (
            f"one of {', '.join(map(repr, known))}" if known else "left out, as no framework's rules are known for it"
        )
        raise InputError(f"compat is {compat!r}; for {spec.name!r} it must be {valid}")
    return known[compat]
