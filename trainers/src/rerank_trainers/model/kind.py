"""`ModelKind`: the differences between the kinds of model that can be trained. Each kind is a file of `kinds/`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from rerank_core import Head, InputError, ModelSpec, Template
from rerank_core.errors import short
from rerank_trainers.config.schema import Config, ModelConfig

if TYPE_CHECKING:
    from rerank_core.spec.template import Wrap
    from rerank_trainers.model.source import Source
    from rerank_trainers.objectives.base import Objective

__all__ = ["Kinds", "Loaded", "ModelKind"]

# Settings of `model` that only some kinds read.
_VECTORS = ("embedding", "colbert")
_READ_BY: Mapping[str, tuple[str, ...]] = {
    "answers": ("llm", "layerwise"),
    "first_layer": ("layerwise",),
    "self_distill": ("layerwise",),
    "pooling": ("embedding",),
    "matryoshka": ("embedding",),
    "matryoshka_weights": ("embedding",),
    "reduce": ("colbert",),
    "tokens": ("colbert",),
    "width": _VECTORS,
    "width_bias": _VECTORS,
    "prompts": _VECTORS,
    "freeze_embeddings": _VECTORS,
}


@dataclass(frozen=True, eq=False)
class Loaded:
    """A module in float32, ready to be trained.

    Attributes:
        tokenizer: the transformers tokenizer, which is published with the weights.
        spec: the spec of the model in training, with the head as it will be saved.
        fresh: names of the weights that start at random.
    """

    module: Any
    tokenizer: Any
    spec: ModelSpec
    fresh: Sequence[str] = ()


class ModelKind(ABC):
    """A kind of model.

    Attributes:
        name: the value of ``model.kind``.
        heads: kinds of head whose models this kind continues, and whose template and limits it can follow.
        keeps_code: whether it is scored by the code of the followed model's plugin, if that has any; otherwise by the
            core's code.
        wrap: the special tokens around a template of the configuration's own; see `Template`.
        lora_task: peft's name of the task.
        calibrates: whether its weights can hold a scale and an offset of the score.
        in_batch: whether query and document are encoded separately, so that all texts of a step can be compared.
        pools: whether each text has one vector.
        tag, sentence: of the model card.
    """

    name: ClassVar[str]
    heads: ClassVar[tuple[str, ...]]
    keeps_code: ClassVar[bool] = True
    wrap: ClassVar[Wrap] = "none"
    lora_task: ClassVar[str | None] = None
    calibrates: ClassVar[bool] = False
    in_batch: ClassVar[bool] = False
    pools: ClassVar[bool] = False
    tag: ClassVar[str]
    sentence: ClassVar[str]

    def serves(self, spec: ModelSpec) -> bool:
        """Whether a model is of this kind, or one whose template this kind can follow."""
        return spec.head is not None and spec.head.kind in self.heads

    def template(self, config: ModelConfig, like: ModelSpec | None) -> Template | None:
        """The template where the configuration has none of its own; None if the kind needs a model to follow.

        Args:
            like: the model that is followed; None for none.
        """
        return None if like is None else like.template

    @abstractmethod
    def head(self, config: ModelConfig, like: ModelSpec | None) -> Head:
        """The head of the model in training, as far as it is known before the weights are loaded.

        Raises:
            InputError: settings that do not fit.
        """

    @abstractmethod
    def load(self, source: Source, config: ModelConfig, spec: ModelSpec) -> Loaded:
        """Load the weights to start from.

        Raises:
            CheckpointError: files that cannot be loaded, or missing weights.
            InputError: settings that do not fit the model.
        """

    def trained_in_full(self, module: Any, fresh: Sequence[str]) -> list[str]:
        """Names of modules that are trained in full beside adapters: those with weights that start at random."""
        return sorted({name.rpartition(".")[0] for name in fresh})

    def objective(self, objective: Objective, config: ModelConfig) -> Objective:
        """The objective as this kind learns from it; by default as it is."""
        return objective

    def check_objective(self, objective: Objective) -> None:
        """Refuse an objective that a model of this kind cannot learn from.

        Raises:
            InputError: it reads vectors, or compares all texts of a step, and this kind has none of them.
        """
        if objective.needs.vectors and not self.pools:
            raise InputError(
                f"the objective {objective.name!r} reads one vector per text, and model.kind is {self.name!r}; "
                "set model.kind=embedding, or choose another objective, such as kl"
            )
        if objective.needs.step and not self.in_batch:
            raise InputError(
                f"the objective {objective.name!r} compares all texts of a step, and model.kind is {self.name!r}, "
                "which scores query and document together; choose softmax_ce, or set model.kind=embedding or colbert"
            )

    def temperature(self, spec: ModelSpec) -> float:
        """The default of an objective's ``temperature``."""
        return 1.0

    def check(self, config: Config) -> None:
        """Refuse settings that do not fit this kind, or that it does not read.

        Raises:
            InputError: names the setting and its value.
        """
        model, defaults = config.model, ModelConfig()
        for name, kinds in _READ_BY.items():
            value = getattr(model, name)
            if self.name not in kinds and value != getattr(defaults, name):
                raise InputError(
                    f"model.{name} is {short(list(value) if isinstance(value, tuple) else value)}, and model.kind is "
                    f"{self.name!r}, which does not read it; leave it out, or set model.kind={' or '.join(kinds)}"
                )
        if config.publish.calibrate and not self.calibrates:
            raise InputError(
                f"publish.calibrate is true, and model.kind is {self.name!r}, whose weights cannot store a scale and "
                "an offset of the score; leave calibrate out, the model card reports the fit"
            )

    def settings(self, head: Head, spec: ModelSpec) -> dict[str, Any]:
        """Settings of ``model`` that a checkpoint without its configuration shows."""
        return {}

    def widths(self, config: ModelConfig, scorer: Any) -> tuple[int, ...]:
        """The Matryoshka widths, widest first.

        Raises:
            InputError: a width above that of the model's vectors.
        """
        return ()

    def write(self, module: Any, spec: ModelSpec, folder: Path) -> None:  # noqa: B027 -- most kinds have no such part
        """Write the parts of a model that are not in transformers' files, such as layers after the encoder."""

    def finish(self, folder: Path, spec: ModelSpec, widths: Sequence[int]) -> None:  # noqa: B027 -- as above
        """Write the files by which other libraries open a published folder."""

    def extra_config(self, spec: ModelSpec) -> dict[str, Any]:
        """Keys of the published ``config.json`` that other libraries read."""
        return {}


Kinds: TypeAlias = Mapping[str, ModelKind]
"""Kinds by name."""
