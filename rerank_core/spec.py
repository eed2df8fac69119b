"""What a plugin author writes: `ModelSpec` = `Template` + `Head` + limits. Plain frozen data, no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

from rerank_core.errors import InputError, short
from rerank_core.longdoc import longdoc_of
from rerank_core.types import ScoreSpace

__all__ = ["Head", "ModelOption", "ModelSpec", "Template"]

HeadKind: TypeAlias = Literal["classifier", "maxsim"]
Wrap: TypeAlias = Literal["none", "pair", "each"]

_NAME = re.compile(r"[a-z0-9]+(?:[.-][a-z0-9]+)*")
# An alias may be a hub id, "owner/name"; a colon would be taken for "plugin:name".
_ALIAS = re.compile(r"[\w.-]+(?:/[\w.-]+)?")


def _known(value: object, valid: tuple[str | None, ...], what: str) -> None:
    if value not in valid:
        raise InputError(f"{what} is {short(value)}; it must be one of {', '.join(map(repr, valid))}")


@dataclass(frozen=True)
class Template:
    """How the tokens of a query and of a passage become rows.

    ``{query}`` and ``{doc}`` stand for the caller's text and are tokenized together with the literal text of
    their piece, in which no special token can stand; ``before``, ``between`` and ``after`` are literal and may name
    special tokens. User text never makes any.

    Attributes:
        wrap: which special tokens the tokenizer itself adds. ``pair``: those of its pair template, around query
            and document in one row. ``each``: those of its single template, query and document in rows of their
            own. ``none``: the template says all.
    """

    before: str = ""
    query: str = "{query}"
    between: str = ""
    doc: str = "{doc}"
    after: str = ""
    wrap: Wrap = "none"

    def __post_init__(self) -> None:
        _known(self.wrap, ("none", "pair", "each"), "Template.wrap")
        for piece, mark in ((self.query, "{query}"), (self.doc, "{doc}")):
            if not isinstance(piece, str) or piece.count(mark) != 1:
                raise InputError(f"the template piece {short(piece)} must be a string that holds {mark} exactly once")
        if self.wrap != "none" and (self.before or self.between or self.after):
            raise InputError(f"Template(wrap={self.wrap!r}) takes its literal text from the tokenizer; leave it out")

    @classmethod
    def pair(cls, query: str = "{query}", doc: str = "{doc}") -> Template:
        """The tokenizer's own pair layout, as in BERT's ``[CLS] query [SEP] doc [SEP]``."""
        return cls(query=query, doc=doc, wrap="pair")

    @classmethod
    def each(cls, query: str = "{query}", doc: str = "{doc}") -> Template:
        """Query and document each in the tokenizer's single layout, as in ``[CLS] doc [SEP]``."""
        return cls(query=query, doc=doc, wrap="each")


@dataclass(frozen=True)
class Head:
    """How a score is read off the model. Use the constructors, one per kind.

    Attributes:
        kind: ``classifier`` (one-label sequence classification) or ``maxsim`` (late interaction).
        reduce: for ``maxsim``, how the best similarities of the query's tokens become one score.
    """

    kind: HeadKind
    reduce: Literal["mean", "sum"] | None = None

    def __post_init__(self) -> None:
        _known(self.kind, ("classifier", "maxsim"), "Head.kind")
        if self.kind == "maxsim":
            _known(self.reduce, ("mean", "sum"), "Head.reduce")
        elif self.reduce is not None:
            raise InputError(f"Head(kind={self.kind!r}) takes no reduce={self.reduce!r}")

    @classmethod
    def classifier(cls) -> Head:
        """The single logit of a sequence classifier (a cross-encoder; Nogueira & Cho, 2019)."""
        return cls("classifier")

    @classmethod
    def maxsim(cls, reduce: Literal["mean", "sum"] = "sum") -> Head:
        """MaxSim over L2-normalised token vectors: for each query token its best document token, then summed
        (ColBERT; Khattab & Zaharia, 2020) or averaged over the query's tokens."""
        return cls("maxsim", reduce=reduce)

    @property
    def score_space(self) -> ScoreSpace:
        """What the raw score is."""
        return "maxsim" if self.kind == "maxsim" else "logit"


@dataclass(frozen=True)
class ModelOption:
    """An option of one model beyond the common ones, validated and listed by ``rerank models NAME``.

    Attributes:
        when: ``load`` (fixed once the model is loaded) or ``call`` (also given to ``rerank``).
        choices: the valid values; empty where any value of the type will do.
    """

    name: str
    type: Literal["int", "float", "str", "bool"]
    help: str
    default: int | float | str | bool | None = None
    when: Literal["load", "call"] = "load"
    choices: tuple[int | float | str, ...] = ()

    def __post_init__(self) -> None:
        _known(self.type, ("int", "float", "str", "bool"), f"ModelOption({self.name!r}).type")
        _known(self.when, ("load", "call"), f"ModelOption({self.name!r}).when")
        self.check(self.default)

    def check(self, value: object) -> None:
        """Raise InputError where ``value`` is not of the type or not among the choices."""
        kinds: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "str": (str,), "bool": (bool,)}
        right = isinstance(value, kinds[self.type]) and (self.type == "bool" or not isinstance(value, bool))
        if not right and not (value is None and self.default is None):
            raise InputError(f"option {self.name}={value!r} must be of type {self.type}: {self.help}")
        if self.choices and value is not None and value not in self.choices:
            raise InputError(f"option {self.name}={value!r} must be one of {', '.join(map(repr, self.choices))}")


@dataclass(frozen=True)
class ModelSpec:
    """A model as data.

    Attributes:
        name: kebab-case ``family-variant``.
        checkpoint: a hub id, or ``package:NAME/FOLDER`` for files inside an installed Python package.
        max_length: tokens of one row (of the document's row for late interaction), template included.
        aliases: other exact names; the hub id is always one.
        activation: what the model's authors apply to the raw score when they ship it.
        longdoc: strategy for documents longer than one row (see ``rerank_core.longdoc``).
        revision: hub commit that ``checkpoint`` is pinned to.
        sha256: file name in the checkpoint to hex digest, checked on load.
        scorer: ``package.module:factory`` for a model with its own code; honoured from installed plugins only.
            The factory takes ``(spec, options)`` and returns a Scorer, TextScorer or ListRanker.
        score_space: what a raw score is; by default what the head says.
        options: what can be set beyond the common options.
    """

    name: str
    checkpoint: str = ""
    template: Template = field(default_factory=Template.pair)
    head: Head | None = None
    max_length: int = 512
    max_query_length: int | None = None
    aliases: tuple[str, ...] = ()
    activation: Literal["none", "sigmoid"] = "none"
    longdoc: str = "maxp"
    revision: str | None = None
    sha256: Mapping[str, str] = field(default_factory=dict)
    scorer: str | None = None
    score_space: ScoreSpace | None = None
    options: tuple[ModelOption, ...] = ()
    description: str = ""
    languages: tuple[str, ...] = ()
    license: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise InputError(f"model name {short(self.name)} is not kebab-case, like 'family-variant'")
        if self.head is None and self.scorer is None:
            raise InputError(f"model {self.name!r} has neither a head nor a scorer; nothing could score with it")
        me = f"model {self.name!r}: "
        for name, optional in (("max_length", False), ("max_query_length", True)):
            value = getattr(self, name)
            if (isinstance(value, bool) or not isinstance(value, int) or value < 1) and not (
                optional and value is None
            ):
                raise InputError(f"{me}{name} is {short(value)}; it must be a positive integer")
        for name, kind in (("template", Template), ("head", Head)):
            value = getattr(self, name)
            if not isinstance(value, kind) and not (name == "head" and value is None):
                raise InputError(f"{me}{name} is {short(value)}; it must be a {kind.__name__}")
        for name in ("aliases", "languages"):
            value = getattr(self, name)
            if not isinstance(value, tuple) or not all(isinstance(item, str) for item in value):
                raise InputError(f"{me}{name} is {short(value)}; it must be a tuple of strings")
        for alias in self.aliases:
            if not _ALIAS.fullmatch(alias):
                raise InputError(f"{me}alias {short(alias)} must be a name or a hub id like 'owner/name'")
        if self.scorer is not None and not re.fullmatch(r"[\w.]+:\w+", self.scorer):
            raise InputError(f"{me}scorer is {short(self.scorer)}; it must be 'package.module:factory'")
        _known(self.activation, ("none", "sigmoid"), f"{me}activation")
        _known(self.score_space, (None, *get_args(ScoreSpace)), f"{me}score_space")
        longdoc_of(self.longdoc)
        if self.head is not None and self.head.kind == "maxsim" and self.template.wrap == "pair":
            raise InputError(
                f"model {self.name!r}: late interaction keeps query and document apart; use Template.each()"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """Every exact name of the model: its own, its aliases, its hub id."""
        hub = (self.checkpoint,) if self.checkpoint and not self.checkpoint.startswith("package:") else ()
        return tuple(dict.fromkeys((self.name, *self.aliases, *hub)))

    @property
    def raw_space(self) -> ScoreSpace:
        """What a raw score of this model is."""
        if self.score_space is not None:
            return self.score_space
        return self.head.score_space if self.head is not None else "logit"

    def facts(self) -> dict[str, Any]:
        """Plain data for listings."""
        return {
            "name": self.name,
            "aliases": [name for name in self.names if name != self.name],
            "description": self.description,
            "head": self.head.kind if self.head else None,
            "checkpoint": self.checkpoint,
            "revision": self.revision,
            "max_length": self.max_length,
            "longdoc": self.longdoc,
            "score_space": self.raw_space,
            "activation": self.activation,
            "languages": list(self.languages),
            "license": self.license,
            "options": [
                {
                    "name": option.name,
                    "type": option.type,
                    "default": option.default,
                    "choices": list(option.choices),
                    "when": option.when,
                    "help": option.help,
                }
                for option in self.options
            ],
        }
