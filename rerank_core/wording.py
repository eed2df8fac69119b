"""A template with a model's options written into it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rerank_core.spec import ModelSpec

__all__ = ["Wording"]


@dataclass(frozen=True)
class Wording:
    """The text of a template for certain options.

    Attributes:
        around: for ``query`` and ``doc``, the literal text before and after the caller's.
        literal: the pieces of ``before``, ``between`` and ``after``, each with whether the template alone wrote it:
            only then may it name special tokens.
    """

    around: Mapping[str, tuple[str, str]]
    literal: Mapping[str, Sequence[tuple[str, bool]]]

    @classmethod
    def of(cls, spec: ModelSpec, values: Mapping[str, Any], bos: str | None) -> Wording:
        """The wording of a spec's template.

        Args:
            values: the model's options by name.
            bos: the tokenizer's first token, for ``{bos}``.
        """
        texts = {option.name: option.text(values.get(option.name)) for option in spec.options}
        template = spec.template
        around = {}
        for side, piece in (("query", template.query), ("doc", template.doc)):
            before, after = (_filled(part, texts)[0] for part in piece.split("{" + side + "}"))
            around[side] = (before, after)
        literal = {}
        for name in ("before", "between", "after"):
            pieces = [_filled(piece.replace("{bos}", bos or ""), texts) for piece in getattr(template, name)]
            literal[name] = [(text, own) for text, own in pieces if text]
        return cls(around, literal)


def _filled(piece: str, texts: Mapping[str, str]) -> tuple[str, bool]:
    """A piece with its options in place, and whether it had none. What an option says is not looked at again."""
    names = [name for name in texts if "{" + name + "}" in piece]
    if not names:
        return piece, True
    pattern = re.compile("|".join(re.escape("{" + name + "}") for name in names))
    return pattern.sub(lambda found: texts[found.group()[1:-1]], piece), False
