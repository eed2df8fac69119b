"""The rules by which a reranker makes rows: its options, the model's values and the scorer's limits combined."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from rerank_core.errors import InputError, short
from rerank_core.options import CallOptions, Options
from rerank_core.planning.longdoc import longdoc_of
from rerank_core.planning.row_plan import Rules
from rerank_core.scorer import AnyScorer, Resumable, Scorer, Stackable, Templated
from rerank_core.spec import ModelSpec
from rerank_core.spec.compat import PROFILES, CompatProfile, CompatRules

__all__ = ["base_rules", "call_rules"]

_ROW_OPTIONS = ("longdoc", "overlap", "compat", "max_length", "max_query_length", "token_budget")


def base_rules(scorer: AnyScorer, spec: ModelSpec, options: Options) -> tuple[Rules, CompatProfile | None]:
    """The rules that hold for every call of a reranker, and the profile of the framework that ``compat=`` names.

    Raises:
        InputError: this scorer does not support an option.
    """
    rules = options.rules(spec)
    if not isinstance(scorer, Scorer):
        set_options = [name for name in _ROW_OPTIONS if getattr(options, name) is not None]
        if set_options:
            raise InputError(f"{spec.name!r} scores whole texts, so {set_options!r} have no effect; leave them out")
        return rules, None
    profile = compat_profile(spec, options.compat)
    both = () if profile is None else (profile.pairs, profile.lists)
    if any(
        (compat.stacked and not isinstance(scorer, Stackable))
        or (compat.extra_budget and not isinstance(scorer, Templated))
        or (compat.longest_first and spec.template.repeats_query)
        for compat in both
    ):
        raise InputError(
            f"compat is {options.compat!r}, and the scorer of {spec.name!r}, a {type(scorer).__name__}, cannot build "
            "rows as that framework does; leave compat out"
        )
    limit = scorer.max_positions
    if limit is None:
        return rules, profile
    if options.max_length is not None and options.max_length > limit:
        raise InputError(
            f"max_length is {options.max_length!r}, and {spec.name!r} has {limit} positions; use at most {limit}"
        )
    return replace(rules, max_length=min(rules.max_length, limit)), profile


def call_rules(
    rules: Rules, profile: CompatProfile | None, scorer: AnyScorer, spec: ModelSpec, call: CallOptions, *, pairs: bool
) -> Rules:
    """The rules of one call.

    Args:
        pairs: True for ``score``; some frameworks truncate the texts of a pair differently from those of a list.

    Raises:
        InputError: ``longdoc`` or ``overlap`` has no effect here, or pairs are scored by a cascade.
    """
    if pairs and isinstance(scorer, Resumable) and scorer.keep:
        raise InputError(
            f"score returns scores that can be compared, and a cascade ({list(scorer.keep)!r} documents of a query go "
            "on) takes them from different layers; use rerank, or leave the cascade out (cascade=None where it was "
            "given to load)"
        )
    set_options = [name for name in ("longdoc", "overlap") if getattr(call, name) is not None]
    if set_options and not isinstance(scorer, Scorer):
        raise InputError(f"{spec.name!r} scores whole texts, so longdoc and overlap have no effect; leave them out")
    if profile is not None:
        if set_options:
            raise InputError(
                f"compat= decides how long documents are truncated, so {set_options!r} cannot be set; leave them out"
            )
        parts = scorer.parts if isinstance(scorer, Templated) else {}
        return apply_compat(rules, profile.pairs if pairs else profile.lists, parts)
    rules = rules if call.longdoc is None else replace(rules, longdoc=longdoc_of(call.longdoc))
    return rules if call.overlap is None else replace(rules, overlap=call.overlap)


def compat_profile(spec: ModelSpec, compat: str | None) -> CompatProfile | None:
    """The profile that ``compat=`` names for a model.

    Raises:
        InputError: no profile of this name is known for this model.
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


def apply_compat(rules: Rules, compat: CompatRules, parts: Mapping[str, int]) -> Rules:
    """The rules of a call with those of a framework applied. A ``max_query_length`` set by the caller takes precedence
    over ``query_share``.

    Args:
        parts: the number of tokens of each literal part of the template.
    """
    limit = rules.max_query_length
    if limit is None and compat.query_share is not None:
        limit = rules.max_length * compat.query_share[0] // compat.query_share[1]
    return replace(
        rules,
        longdoc=compat.longdoc,
        max_length=rules.max_length + sum(parts[name] for name in compat.extra_budget),
        max_query_length=limit,
        max_piece=rules.max_length if compat.count_literal_text else None,
        longest_first=compat.longest_first,
        stacked=compat.stacked,
        max_chars=compat.max_chars,
    )
