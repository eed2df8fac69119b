"""``compat=``: the truncation, layout and budget of an original framework, copied so that its scores come out.

Facts of each by reading and running it: FlagEmbedding 1.4, RAG-Retrieval 0.2.2, BCEmbedding 0.1.5; `make parity` runs
them beside ours. What they lose, renumber or refuse is not copied.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from rerank_core.errors import InputError, short
from rerank_core.longdoc import FirstP, MaxP
from rerank_core.manners import Manner, Profile
from rerank_core.rows import Rules
from rerank_core.spec import HeadKind, ModelSpec

__all__ = ["PROFILES", "in_manner", "profile_of"]


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
"""By kind of head, then by what ``compat=`` says; a model may bring its own (`ModelSpec.compat`)."""


def profile_of(spec: ModelSpec, compat: str | None) -> Profile | None:
    """The profile that ``compat=`` names for a model.

    Raises:
        InputError: no such framework, or none that reads this kind of model.
    """
    if compat is None:
        return None
    known = {**(PROFILES.get(spec.head.kind, {}) if spec.head is not None else {}), **spec.compat}
    if compat not in known:
        valid = (
            f"one of {', '.join(map(repr, known))}" if known else "left out, as no framework's rules are known for it"
        )
        raise InputError(f"compat is {short(compat)}; for {spec.name!r} it must be {valid}")
    return known[compat]


def in_manner(rules: Rules, manner: Manner, parts: Mapping[str, int]) -> Rules:
    """The rules of a call, in this manner. A ``max_query_length`` that the caller set wins over the share.

    Args:
        parts: tokens of the template's parts.
    """
    limit = rules.max_query_length
    if limit is None and manner.query_share is not None:
        limit = rules.max_length * manner.query_share[0] // manner.query_share[1]
    return replace(
        rules,
        longdoc=manner.longdoc,
        max_length=rules.max_length + sum(parts[name] for name in manner.beside),
        max_query_length=limit,
        max_piece=rules.max_length if manner.pieces else None,
        longest_first=manner.longest_first,
        stacked=manner.stacked,
        max_chars=manner.max_chars,
    )
