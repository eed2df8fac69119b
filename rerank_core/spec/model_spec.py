"""`ModelSpec` = `Template` + `Head` + limits: a model as plain frozen data, without torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from rerank_core.errors import InputError, one_of, short
from rerank_core.planning.longdoc import longdoc_of
from rerank_core.spec.compat import CompatProfile
from rerank_core.spec.head import Head
from rerank_core.spec.head_options import label_option, layer_options, score_option, truncate_option
from rerank_core.spec.hub_or_folder import is_hub_id
from rerank_core.spec.license import is_non_commercial
from rerank_core.spec.model_option import ModelOption
from rerank_core.spec.template import Template
from rerank_core.types import ScoreSpace

__all__ = ["ModelSpec"]

_NAME = re.compile(r"[a-z0-9]+(?:[.-][a-z0-9]+)*")
_LONGEST_NAME = 96
_SCORER = re.compile(r"[\w.]+:\w+")
# A colon would be read as "plugin:name". An alias may also be a hub id.
_ALIAS = re.compile(r"[\w.-]+")


def _is_name(name: str) -> bool:
    return len(name) <= _LONGEST_NAME and _NAME.fullmatch(name) is not None


@dataclass(frozen=True)
class ModelSpec:
    """A model as data.

    Attributes:
        name: kebab-case ``family-variant``; for a checkpoint of the hub that no plugin registers, its hub id.
        checkpoint: a hub id, or ``package:NAME/FOLDER`` for files inside an installed Python package.
        max_length: the maximum tokens of one row (of the document's row for late interaction), template included.
        aliases: other exact names; the hub id is always an alias.
        activation: the activation that the model's authors apply to the raw score.
        longdoc: strategy for documents longer than one row (see ``rerank_core.planning.longdoc``).
        revision: hub commit that ``checkpoint`` is pinned to.
        sha256: file names in the checkpoint and their hex digests, checked on load.
        pickled: the publisher offers no safetensors, so the weights are read from ``pytorch_model.bin`` with torch's
            weights-only unpickler, which runs no code; accepted from installed plugins only.
        scorer: ``package.module:factory`` for a model with its own code; accepted from installed plugins only.
            The factory takes ``(spec, options)`` and returns a Scorer, TextScorer or ListRanker.
        score_space: the kind of the raw score; by default that of the head.
        options: options beyond the common ones; a spec with `Head.layers` and no ``scorer`` also gets ``layer`` and
            ``cascade``, one with ``Head.maxsim(pooling=...)`` gets ``score``, one with ``Head.cosine`` gets
            ``truncate_dim``, a classifier with several labels gets ``label``.
        compat: rules of other frameworks for this model, by the name given to ``compat=``; they are added to those
            known for the kind of head.
        license: the licence of the weights, by its SPDX identifier where it has one.
        parameters: the number of the model's weights, to about three digits; None where it is unknown.
        calibrated: how the score was calibrated inside the weights, as plain data (the trainers' ``publish.calibrate``
            writes method, scale, offset and the number of documents), so that its sigmoid is a probability of
            relevance; empty where it was not.
        owns_checkpoint: whether the hub id is one of the model's names; False for another way to score the checkpoint
            of a model that owns it.
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
    pickled: bool = False
    scorer: str | None = None
    score_space: ScoreSpace | None = None
    options: tuple[ModelOption, ...] = ()
    compat: Mapping[str, CompatProfile] = field(default_factory=dict)
    description: str = ""
    languages: tuple[str, ...] = ()
    license: str = ""
    parameters: int | None = None
    calibrated: Mapping[str, Any] = field(default_factory=dict)
    owns_checkpoint: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not (_is_name(self.name) or is_hub_id(self.name)):
            raise InputError(f"model name {short(self.name)} is not kebab-case, like 'family-variant'")
        if self.head is None and self.scorer is None:
            raise InputError(f"model {self.name!r} has neither a head nor a scorer; give one of them")
        prefix = f"model {self.name!r}: "
        for name, optional in (("max_length", False), ("max_query_length", True), ("parameters", True)):
            value = getattr(self, name)
            if (isinstance(value, bool) or not isinstance(value, int) or value < 1) and not (
                optional and value is None
            ):
                raise InputError(f"{prefix}{name} is {short(value)}; it must be a positive integer")
        for name, kind in (("template", Template), ("head", Head)):
            value = getattr(self, name)
            if not isinstance(value, kind) and not (name == "head" and value is None):
                raise InputError(f"{prefix}{name} is {short(value)}; it must be a {kind.__name__}")
        for name in ("aliases", "languages"):
            value = getattr(self, name)
            if not isinstance(value, tuple) or not all(isinstance(item, str) for item in value):
                raise InputError(f"{prefix}{name} is {short(value)}; it must be a tuple of strings")
        for name in ("checkpoint", "description", "license"):
            if not isinstance(getattr(self, name), str):
                raise InputError(f"{prefix}{name} is {short(getattr(self, name))}; it must be a string")
        if self.revision is not None and not isinstance(self.revision, str):
            raise InputError(f"{prefix}revision is {short(self.revision)}; it must be a string")
        if not isinstance(self.options, tuple) or not all(isinstance(item, ModelOption) for item in self.options):
            raise InputError(f"{prefix}options is {short(self.options)}; it must be a tuple of ModelOption")
        for name in ("sha256", "compat", "calibrated"):
            if not isinstance(getattr(self, name), Mapping):
                raise InputError(f"{prefix}{name} is {short(getattr(self, name))}; it must be a mapping")
        for name in ("pickled", "owns_checkpoint"):
            if not isinstance(getattr(self, name), bool):
                raise InputError(f"{prefix}{name} is {short(getattr(self, name))}; it must be True or False")
        for alias in self.aliases:
            if not (_ALIAS.fullmatch(alias) or is_hub_id(alias)):
                raise InputError(f"{prefix}alias {short(alias)} must be a name or a hub id like 'owner/name'")
        if self.scorer is not None and not (isinstance(self.scorer, str) and _SCORER.fullmatch(self.scorer)):
            raise InputError(f"{prefix}scorer is {short(self.scorer)}; it must be 'package.module:factory'")
        one_of(self.activation, ("none", "sigmoid"), f"{prefix}activation")
        own = [space for space in get_args(ScoreSpace) if space != "combined"]
        one_of(self.score_space, (None, *own), f"{prefix}score_space")
        if self.calibrated and self.raw_space != "logit":
            raise InputError(
                f"{prefix}calibrated says that the sigmoid of the score is a probability, and the score is no logit "
                f"but {self.raw_space!r}; leave it empty"
            )
        longdoc_of(self.longdoc)
        names = {option.name for option in self.options}
        missing = tuple(option for option in self._head_options() if option.name not in names)
        object.__setattr__(self, "options", (*self.options, *missing))
        if self.head is not None and self.head.kind in ("maxsim", "cosine") and self.template.wrap == "pair":
            raise InputError(
                f"model {self.name!r}: Head.{self.head.kind}() puts query and document in separate rows; "
                "use Template.each()"
            )

    def _head_options(self) -> tuple[ModelOption, ...]:
        """The options that the head brings."""
        if self.head is None:
            return ()
        if self.head.kind == "layers" and self.scorer is None:
            return layer_options()
        if len(self.head.labels) > 1 and self.scorer is None:
            return (label_option(self.head.labels, self.head.label),)
        if self.head.kind == "cosine" and self.scorer is None:
            return (truncate_option(),)
        return (score_option(),) if self.head.kind == "maxsim" and self.head.pooling is not None else ()

    @property
    def names(self) -> tuple[str, ...]:
        """Every exact name of the model: ``name``, the aliases, the hub id."""
        owned = self.owns_checkpoint and self.checkpoint and not self.checkpoint.startswith("package:")
        hub = (self.checkpoint,) if owned else ()
        return tuple(dict.fromkeys((self.name, *self.aliases, *hub)))

    @property
    def raw_space(self) -> ScoreSpace:
        """The kind of this model's raw scores."""
        if self.score_space is not None:
            return self.score_space
        return self.head.score_space if self.head is not None else "logit"

    def facts(self) -> dict[str, Any]:
        """The spec's main fields as plain data, for listings."""
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
            "calibrated": bool(self.calibrated),
            "languages": list(self.languages),
            "license": self.license,
            "non_commercial": is_non_commercial(self.license),
            "parameters": self.parameters,
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
