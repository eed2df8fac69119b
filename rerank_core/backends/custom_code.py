"""Refuses folders whose authors ship code of their own that would change scores, because that code is never run.

transformers runs its own class in place of a class that ``auto_map`` names. Where both are known to compute the same,
the architecture is in a table here; else the folder is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass

from rerank_core.backends.config_checks import with_nested
from rerank_core.errors import CheckpointError
from rerank_core.spec.untrusted_files import JsonObject

__all__ = ["EQUAL", "Port", "check_model_code", "check_tokenizer_code"]

_TOKENIZERS = ("AutoTokenizer", "AutoProcessor", "AutoFeatureExtractor", "AutoImageProcessor")


@dataclass(frozen=True)
class Port:
    """Code of a model's authors that transformers' own class equals.

    Attributes:
        types: the values of ``model_type`` for which it holds.
        classes: the beginnings of the names of the authors' classes.
        modules: the names of the authors' files without ``.py``; every class in them counts.
        why: how it is known that both compute the same.
    """

    types: tuple[str, ...]
    why: str
    classes: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()

    def holds(self, model_type: str, reference: str) -> bool:
        """Whether ``repository--module.Class`` of a model of this type is such code."""
        module, _, name = reference.rpartition("--")[2].rpartition(".")
        return model_type in self.types and (name.startswith(self.classes or "\0") or module in self.modules)


EQUAL: tuple[Port, ...] = (
    Port(
        ("new", "gte"),
        "transformers' gte was ported from this code (Alibaba-NLP/new-impl) and converts its weights",
        classes=("New", "Gte"),
    ),
    Port(("eurobert",), "transformers' eurobert was written by the authors of this code", classes=("EuroBert",)),
    Port(
        ("qwen3",),
        "zerank's file changes how sentence-transformers writes the prompt, which our specs write too; the network is "
        "transformers' Qwen3",
        modules=("modeling_zeranker",),
    ),
)
"""The code that is known to be equal, by the authors' class names."""

# Classes that transformers does not have, or no longer under this name, and what is read in their place.
_KNOWN_CLASSES = {
    "HF_ColBERT": "BERT and a linear layer (Stanford's ColBERT), which late interaction reads",
    "LayeredModel": "a causal model with layer heads, as the trainers write it",
    "LLaMAForCausalLM": "the former name of LlamaForCausalLM",
    "T5WithLMHeadModel": "the former name of T5ForConditionalGeneration",
}


def check_model_code(settings: JsonObject, types: Container[str], known: Callable[[str], bool]) -> None:
    """Refuse a ``config.json`` that names a model class other than transformers' own.

    Args:
        types: the model types that transformers has.
        known: whether transformers has a class of this name.

    Raises:
        CheckpointError: names the class, or the type where transformers does not have it.
    """
    kind = settings.of("model_type", str, "")
    if settings.inner("auto_map") and kind not in types:
        raise CheckpointError(
            f"{settings.file}: a model of type {kind!r} is code in the folder itself (auto_map), which is never run, "
            "and this transformers has no model of that type. Load it by the name that a plugin gives it, as `rerank "
            "models` lists them, with checkpoint=<this directory>; or upgrade transformers, if it has the type by now"
        )
    for config in with_nested(settings):
        kind = config.of("model_type", str, "")
        for task, reference in _references(config):
            if task in _TOKENIZERS:
                _refuse_tokenizer(config, reference)
            elif not any(port.holds(kind, reference) for port in EQUAL):
                raise CheckpointError(
                    f"{config.file}: auto_map names {reference!r}, a class of the model's authors, which is never run; "
                    f"transformers' own model of type {kind!r} would run in its place and may give other scores. Load "
                    "the model by the name of a plugin that has code for it, as `rerank models` lists them, with "
                    "checkpoint=<this directory>; or delete auto_map from config.json, if you know that both classes "
                    "compute the same"
                )
        for name in config.texts("architectures") or ():
            equal = name in _KNOWN_CLASSES or any(port.holds(kind, f".{name}") for port in EQUAL)
            if not equal and not known(name):
                raise CheckpointError(
                    f"{config.file}: architectures names {name!r}, a class that this transformers does not have; its "
                    f"own model of type {kind!r} would run in its place and may give other scores. Upgrade "
                    "transformers, if it has the class by now; load the model by the name of a plugin that has code "
                    "for it, with checkpoint=<this directory>; or name the class of transformers that computes the same"
                )


def check_tokenizer_code(settings: JsonObject) -> None:
    """Refuse a ``tokenizer_config.json`` that names a tokenizer class of the model's authors.

    Raises:
        CheckpointError: names the class.
    """
    for _, reference in _references(settings):
        _refuse_tokenizer(settings, reference)


def _refuse_tokenizer(settings: JsonObject, reference: str) -> None:
    raise CheckpointError(
        f"{settings.file}: auto_map names {reference!r}, a tokenizer class of the model's authors, which is never run; "
        "the tokenizer's files alone may give other tokens. Delete auto_map from this file, if you know that they give "
        "the same; else save the tokenizer as a tokenizer.json that needs no code"
    )


def _references(settings: JsonObject) -> Iterator[tuple[str, str]]:
    """The tasks and classes of ``auto_map``; a tokenizer has a list of a slow and a fast class."""
    for task, value in settings.inner("auto_map").items():
        for reference in value if isinstance(value, list) else [value]:
            if reference is not None and not isinstance(reference, str):
                raise settings.wrong("auto_map", "it must name classes")
            if reference:
                yield task, reference
