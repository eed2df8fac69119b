"""Reads from ``adapter_config.json``, an untrusted file, the few settings that say how to merge an adapter's tensors.

peft does not read the file, because some of its settings import modules, access the hub or run regular expressions.
Settings that cannot be merged as low-rank adapters (Hu et al., 2021; DoRA, Liu et al., 2024) are refused.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rerank_core.errors import CheckpointError, short
from rerank_core.spec.untrusted_files import read_json

__all__ = ["LoraSettings", "lora_settings"]

# Settings of training and of peft's bookkeeping, which do not change how the saved tensors are merged.
_WITHOUT_EFFECT = frozenset(
    {
        "auto_mapping", "base_model_name_or_path", "ensure_weight_tying", "eva_config", "fan_in_fan_out",
        "inference_mode", "lora_dropout", "peft_version", "qalora_group_size", "revision",
    }
)  # fmt: skip
# Other initializations change the base model's weights before training, which the saved tensors do not contain.
_INITIAL = (True, False, None, "gaussian", "orthogonal", "eva")
_BIASES = ("none", "all", "lora_only")
_TASKS = (None, "SEQ_CLS", "CAUSAL_LM", "SEQ_2_SEQ_LM", "FEATURE_EXTRACTION")

# Time limit for all regular expressions of a file together; ordinary ones take milliseconds.
_SECONDS = 1.0
_LARGEST = 1e9
# Limits of the characters of an expression, and of the values of a setting that is checked for every layer.
_LONGEST, _MOST = 10_000, 2_000


@dataclass(frozen=True)
class LoraSettings:
    """The settings of an ``adapter_config.json`` that are used; peft's names in parentheses.

    Attributes:
        file: the path of the file.
        rank, alpha: for layers that ``ranks`` and ``alphas`` do not match (``r``, ``lora_alpha``).
        targets: names of adapted layers, or one regular expression (``target_modules``).
        excluded: names of layers that are not adapted, or one regular expression (``exclude_modules``).
        whole: names of layers that were trained whole and saved with the adapter (``modules_to_save``).
        ranks, alphas: rank and alpha by regular expression (``rank_pattern``, ``alpha_pattern``).
        layers: numbers of the adapted layers; empty for all (``layers_to_transform``).
        layers_in: names of the module lists that these numbers count in (``layers_pattern``).
        root_scale: scale by ``alpha / sqrt(rank)`` (Kalajdzievski, 2023), not ``alpha / rank`` (``use_rslora``).
        magnitudes: adapted weights have trained norms (DoRA; ``use_dora``).
        up_biases: the second matrix has a bias (``lora_bias``).
        biases: which biases were trained: ``none``, ``all`` or ``lora_only`` (``bias``).
        task: ``SEQ_CLS``, ``CAUSAL_LM``, ``SEQ_2_SEQ_LM``, ``FEATURE_EXTRACTION`` or None (``task_type``).
        spent: seconds spent on regular expressions so far.
    """

    file: Path
    rank: int
    alpha: float
    targets: tuple[str, ...] | str
    excluded: tuple[str, ...] | str
    whole: tuple[str, ...]
    ranks: Mapping[str, float]
    alphas: Mapping[str, float]
    layers: tuple[int, ...]
    layers_in: tuple[str, ...]
    root_scale: bool
    magnitudes: bool
    up_biases: bool
    biases: str
    task: str | None
    spent: list[float] = field(default_factory=list, compare=False, repr=False)

    @property
    def all_linear(self) -> bool:
        """Whether all linear layers except the head are adapted."""
        return isinstance(self.targets, str) and self.targets.lower() == "all-linear"

    def rank_of(self, name: str) -> int:
        """The rank of a layer's adapter."""
        return int(self._patterned(self.ranks, name, self.rank))

    def scale_of(self, name: str) -> float:
        """The factor of the product of a layer's adapter matrices."""
        rank = self.rank_of(name)
        return self._patterned(self.alphas, name, self.alpha) / (math.sqrt(rank) if self.root_scale else rank)

    def adapted(self, names: Iterable[str]) -> frozenset[str]:
        """The layers that have adapters, by peft's rules.

        Args:
            names: the names of all layers of the model.

        Raises:
            CheckpointError: an invalid regular expression, or one that takes too long.
        """
        candidates = [name for name in names if not any(f".{whole}." in f".{name}." for whole in self.whole)]
        targeted = (lambda _: True) if self.all_linear else self._chooser("target_modules", self.targets)
        excluded = self._chooser("exclude_modules", self.excluded) if self.excluded else None
        return frozenset(
            name
            for name in candidates
            if targeted(name) and self._in_layers(name) and not (excluded and excluded(name))
        )

    def _chooser(self, key: str, chosen: tuple[str, ...] | str) -> Callable[[str], bool]:
        if isinstance(chosen, str):
            return self._expression(key, chosen)
        names = frozenset(chosen)

        def ends(name: str) -> bool:
            parts = name.split(".")
            return any(".".join(parts[i:]) in names for i in range(len(parts)))

        return ends

    def _in_layers(self, name: str) -> bool:
        """Whether ``layers`` contains the number in a layer's name."""
        if not self.layers or isinstance(self.targets, str) or name in self.targets:
            return True
        parts = name.split(".")
        prefixes = ["." + ".".join(parts[:i]) for i in range(len(parts))]
        endings = tuple(f".{name}" for name in self.layers_in)
        numbers = [
            int(parts[i])
            for i in range(1, len(parts) - 1)
            if parts[i].isdecimal() and (prefixes[i].endswith(endings) if endings else i > 1)
        ]
        return bool(numbers) and numbers[0] in self.layers

    def _patterned(self, patterns: Mapping[str, float], name: str, default: float) -> float:
        for pattern, value in patterns.items():
            plain = name == pattern or name.endswith(f".{pattern}")
            if plain or (not _is_plain(pattern) and self._expression("a pattern", rf"(.*\.)?({pattern})")(name)):
                return value
        return default

    def _expression(self, key: str, expression: str) -> Callable[[str], bool]:
        """A function that says whether a regular expression matches a whole name, within a time limit: some expressions
        take practically forever."""
        # A dependency of transformers; unlike Python's `re` it has a timeout.
        import regex

        start = time.perf_counter()
        try:
            compiled = regex.compile(expression)
        except (regex.error, RecursionError, OverflowError, MemoryError) as error:
            raise CheckpointError(
                f"{self.file}: {key} {short(expression)} is no expression: {error}; correct it"
            ) from error
        self.spent.append(time.perf_counter() - start)

        def matches(name: str) -> bool:
            start = time.perf_counter()
            try:
                if (left := _SECONDS - sum(self.spent)) <= 0:
                    raise TimeoutError
                return compiled.fullmatch(name, timeout=left) is not None
            except TimeoutError as error:
                raise CheckpointError(
                    f"{self.file}: {key} {short(expression)} takes too long to match; list the names of the layers "
                    "instead"
                ) from error
            finally:
                self.spent[:] = [sum(self.spent) + time.perf_counter() - start]

        return matches


def lora_settings(file: Path) -> LoraSettings:
    """The settings in an ``adapter_config.json``.

    Raises:
        CheckpointError: another type of adapter, an invalid value, or a setting that is not supported.
    """
    settings = dict(read_json(file))
    kind = settings.pop("peft_type", None)
    if kind != "LORA":
        raise CheckpointError(
            f"{file}: peft_type is {short(kind)}; only LORA is supported. Merge other adapters into their base with "
            "peft's merge_and_unload, and load the folder of merged weights"
        )
    read = _Reader(file, settings)
    result = LoraSettings(
        file=file,
        rank=int(read.number("r", 8, whole=True)),
        alpha=read.number("lora_alpha", 8),
        targets=read.names("target_modules", expression=True),
        excluded=read.names("exclude_modules", expression=True),
        whole=read.plain_names("modules_to_save"),
        ranks=read.numbers("rank_pattern", whole=True),
        alphas=read.numbers("alpha_pattern"),
        layers=read.counts("layers_to_transform"),
        layers_in=read.plain_names("layers_pattern"),
        root_scale=read.flag("use_rslora"),
        magnitudes=read.flag("use_dora"),
        up_biases=read.flag("lora_bias"),
        biases=str(read.one_of("bias", "none", _BIASES)),
        task=read.one_of("task_type", None, _TASKS),
    )
    read.one_of("init_lora_weights", True, _INITIAL)
    read.one_of("megatron_core", None, (None, "megatron.core"))
    read.nothing_else(_WITHOUT_EFFECT)
    if not result.targets:
        raise CheckpointError(f"{file} names no target_modules, the layers that are adapted; save the adapter again")
    return result


class _Reader:
    """Takes settings by name and type; settings that remain at the end must be empty (`nothing_else`)."""

    def __init__(self, file: Path, settings: dict[str, Any]) -> None:
        self._file, self._settings = file, settings

    def number(self, key: str, default: float, *, whole: bool = False) -> float:
        return self._number(key, self._settings.pop(key, default), whole=whole)

    def _number(self, key: str, value: Any, *, whole: bool) -> float:
        valid = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
        if not valid or not -_LARGEST < value < _LARGEST or (whole and not 1 <= value <= 1_000_000):
            raise self._wrong(key, value, "it must be " + ("a positive integer" if whole else "a number"))
        return float(value)

    def numbers(self, key: str, *, whole: bool = False) -> dict[str, float]:
        value = self._settings.pop(key, None) or {}
        if not isinstance(value, Mapping):
            raise self._wrong(key, value, "it must be an object")
        if any(len(name) > _LONGEST for name in value) or len(value) > _MOST:
            raise self._wrong(key, value, f"it must have at most {_MOST} expressions of at most {_LONGEST} characters")
        return {str(name): self._number(key, each, whole=whole) for name, each in value.items()}

    def names(self, key: str, *, expression: bool) -> tuple[str, ...] | str:
        value = self._settings.pop(key, None)
        value = [] if value is None else value
        if isinstance(value, str) and expression and len(value) <= _LONGEST:
            return value
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            raise self._wrong(key, value, "it must be a list of names" + (" or one expression" if expression else ""))
        return tuple(value)

    def plain_names(self, key: str) -> tuple[str, ...]:
        if isinstance(self._settings.get(key), str):
            self._settings[key] = [self._settings[key]]
        names = tuple(self.names(key, expression=False))
        if wrong := [name for name in names if not _is_plain(name)]:
            raise self._wrong(key, wrong[0], "it must hold plain names of layers")
        if len(names) > _MOST:
            raise self._wrong(key, names, f"it must hold at most {_MOST} names")
        return names

    def counts(self, key: str) -> tuple[int, ...]:
        value = self._settings.pop(key, None)
        value = [] if value is None else value
        listed = value if isinstance(value, list) else [value]
        if len(listed) > _MOST or not all(isinstance(each, int) and not isinstance(each, bool) for each in listed):
            raise self._wrong(key, value, "it must be numbers of layers")
        return tuple(listed)

    def flag(self, key: str) -> bool:
        value = self._settings.pop(key, None)
        if not (value is None or isinstance(value, bool)):
            raise self._wrong(key, value, "it must be true or false")
        return bool(value)

    def one_of(self, key: str, default: str | bool | None, known: tuple[str | bool | None, ...]) -> str | None:
        value = self._settings.pop(key, default)
        if not any(value is each or (isinstance(value, str) and value == each) for each in known):
            written = ", ".join(repr(each) for each in known)
            raise self._wrong(key, value, f"an adapter is merged only where it is one of {written}")
        return value if isinstance(value, str) else None

    def nothing_else(self, ignored: frozenset[str]) -> None:
        for key, value in self._settings.items():
            if key not in ignored and value not in (None, False, {}, []):
                raise self._wrong(
                    key, value, "which is not supported. Merge the adapter into its base with peft's merge_and_unload"
                )

    def _wrong(self, key: str, value: Any, must: str) -> CheckpointError:
        return CheckpointError(f"{self._file}: {key} is {short(value)}; {must}")


def _is_plain(name: str) -> bool:
    return bool(name) and all(part.replace("_", "").replace("-", "").isalnum() for part in name.split("."))
