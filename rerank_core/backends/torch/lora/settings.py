"""``adapter_config.json``, which anybody may have written: the few settings that say what an adapter's tensors mean.

Nothing else in it is followed, and peft, some of whose settings import modules, ask the hub or run an expression, never
sees it. What cannot be merged as plain low-rank adapters (Hu et al., 2021; DoRA, Liu et al., 2024) is refused.
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

# Settings of how an adapter was made, or of peft's own housekeeping: they change nothing about the saved tensors.
_WITHOUT_EFFECT = frozenset(
    {
        "auto_mapping", "base_model_name_or_path", "ensure_weight_tying", "eva_config", "fan_in_fan_out",
        "inference_mode", "lora_dropout", "peft_version", "qalora_group_size", "revision",
    }
)  # fmt: skip
# The others change the base's own weights before training, which the tensors do not show.
_INITIAL = (True, False, None, "gaussian", "orthogonal", "eva")
_BIASES = ("none", "all", "lora_only")
_TASKS = (None, "SEQ_CLS", "CAUSAL_LM", "FEATURE_EXTRACTION")

# Expressions that a stranger wrote get this long, all together; real ones take milliseconds.
_SECONDS = 1.0
_LARGEST = 1e9
# Characters of one, and how many values a setting may hold that is gone through for every layer.
_LONGEST, _MOST = 10_000, 2_000


@dataclass(frozen=True)
class LoraSettings:
    """What is followed of an ``adapter_config.json``.

    Attributes:
        file: that says so.
        rank, alpha: of layers that ``ranks`` and ``alphas`` have no expression for.
        targets: names of the layers that are adapted, or one expression.
        excluded: names of layers that are not, or one expression.
        whole: names of layers that were trained whole, and lie beside the adapters.
        layers, layers_in: numbers of the layers adapted, and what stands before such a number.
        root_scale: adapters are scaled by ``alpha / sqrt(rank)`` (Kalajdzievski, 2023), not ``alpha / rank``.
        magnitudes: adapted weights have norms of their own (DoRA).
        up_biases: the second matrix has a bias.
        biases: ``none``, ``all`` or ``lora_only``: biases that were trained too.
        task: ``SEQ_CLS``, ``CAUSAL_LM``, ``FEATURE_EXTRACTION`` or None.
        spent: seconds on expressions until now.
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
        """Whether all linear layers are adapted but those that score."""
        return isinstance(self.targets, str) and self.targets.lower() == "all-linear"

    def rank_of(self, name: str) -> int:
        """Columns of an adapter's first matrix."""
        return int(self._patterned(self.ranks, name, self.rank))

    def scale_of(self, name: str) -> float:
        """What an adapter's product is multiplied by."""
        rank = self.rank_of(name)
        return self._patterned(self.alphas, name, self.alpha) / (math.sqrt(rank) if self.root_scale else rank)

    def adapted(self, names: Iterable[str]) -> frozenset[str]:
        """Those of a model's layers that have adapters, by peft's rules.

        Raises:
            CheckpointError: an expression that cannot be read, or takes too long.
        """
        found = [name for name in names if not any(f".{own}." in f".{name}." for own in self.whole)]
        targeted = (lambda _: True) if self.all_linear else self._chooser("target_modules", self.targets)
        excluded = self._chooser("exclude_modules", self.excluded) if self.excluded else None
        return frozenset(
            name for name in found if targeted(name) and self._deep(name) and not (excluded and excluded(name))
        )

    def _chooser(self, key: str, chosen: tuple[str, ...] | str) -> Callable[[str], bool]:
        if isinstance(chosen, str):
            return self._expression(key, chosen)
        names = frozenset(chosen)

        def ends(name: str) -> bool:
            parts = name.split(".")
            return any(".".join(parts[place:]) in names for place in range(len(parts)))

        return ends

    def _deep(self, name: str) -> bool:
        """Whether the number in a layer's name is one of those adapted."""
        if not self.layers or isinstance(self.targets, str) or name in self.targets:
            return True
        parts = name.split(".")
        before = ["." + ".".join(parts[:place]) for place in range(len(parts))]
        endings = tuple(f".{name}" for name in self.layers_in)
        numbers = [
            int(parts[place])
            for place in range(1, len(parts) - 1)
            if parts[place].isdecimal() and (before[place].endswith(endings) if endings else place > 1)
        ]
        return bool(numbers) and numbers[0] in self.layers

    def _patterned(self, patterns: Mapping[str, float], name: str, otherwise: float) -> float:
        for pattern, value in patterns.items():
            plain = name == pattern or name.endswith(f".{pattern}")
            if plain or (not _is_plain(pattern) and self._expression("a pattern", rf"(.*\.)?({pattern})")(name)):
                return value
        return otherwise

    def _expression(self, key: str, expression: str) -> Callable[[str], bool]:
        """Whether an expression matches a name as a whole. It is run with a limit of time: an expression can be
        written so that it never ends."""
        # Of transformers' own dependencies; unlike Python's module it can be given a limit.
        import regex

        start = time.perf_counter()
        try:
            compiled = regex.compile(expression)
        except (regex.error, RecursionError, OverflowError, MemoryError) as error:
            raise CheckpointError(f"{self.file}: {key} {short(expression)} is no expression: {error}") from error
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
                    "in its place"
                ) from error
            finally:
                self.spent[:] = [sum(self.spent) + time.perf_counter() - start]

        return matches


def lora_settings(file: Path) -> LoraSettings:
    """The settings in an ``adapter_config.json``.

    Raises:
        CheckpointError: another kind of adapter, or a setting that is not known to leave the tensors' meaning alone.
    """
    said = dict(read_json(file))
    kind = said.pop("peft_type", None)
    if kind != "LORA":
        raise CheckpointError(
            f"{file}: peft_type is {short(kind)}; only LORA is supported. Merge other adapters into their base with "
            "peft's merge_and_unload, and load the folder of whole weights"
        )
    read = _Reader(file, said)
    found = LoraSettings(
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
    if not found.targets:
        raise CheckpointError(f"{file} names no target_modules, the layers that are adapted")
    return found


class _Reader:
    """Takes settings by name and type; what nobody took in the end must say nothing."""

    def __init__(self, file: Path, said: dict[str, Any]) -> None:
        self._file, self._said = file, said

    def number(self, key: str, otherwise: float, *, whole: bool = False) -> float:
        return self._number(key, self._said.pop(key, otherwise), whole=whole)

    def _number(self, key: str, value: Any, *, whole: bool) -> float:
        right = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
        if not right or not -_LARGEST < value < _LARGEST or (whole and not 1 <= value <= 1_000_000):
            raise self._wrong(key, value, "it must be " + ("a positive integer" if whole else "a number"))
        return float(value)

    def numbers(self, key: str, *, whole: bool = False) -> dict[str, float]:
        value = self._said.pop(key, None) or {}
        if not isinstance(value, Mapping):
            raise self._wrong(key, value, "it must be an object")
        if any(len(name) > _LONGEST for name in value) or len(value) > _MOST:
            raise self._wrong(key, value, "its expressions must be fewer and shorter")
        return {str(name): self._number(key, each, whole=whole) for name, each in value.items()}

    def names(self, key: str, *, expression: bool) -> tuple[str, ...] | str:
        value = self._said.pop(key, None)
        value = [] if value is None else value
        if isinstance(value, str) and expression and len(value) <= _LONGEST:
            return value
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            raise self._wrong(key, value, "it must be a list of names" + (" or one expression" if expression else ""))
        return tuple(value)

    def plain_names(self, key: str) -> tuple[str, ...]:
        if isinstance(self._said.get(key), str):
            self._said[key] = [self._said[key]]
        names = tuple(self.names(key, expression=False))
        if wrong := [name for name in names if not _is_plain(name)]:
            raise self._wrong(key, wrong[0], "it must hold names of layers")
        if len(names) > _MOST:
            raise self._wrong(key, names, "it must hold fewer names")
        return names

    def counts(self, key: str) -> tuple[int, ...]:
        value = self._said.pop(key, None)
        value = [] if value is None else value
        listed = value if isinstance(value, list) else [value]
        if len(listed) > _MOST or not all(isinstance(each, int) and not isinstance(each, bool) for each in listed):
            raise self._wrong(key, value, "it must be numbers of layers")
        return tuple(listed)

    def flag(self, key: str) -> bool:
        value = self._said.pop(key, None)
        if not (value is None or isinstance(value, bool)):
            raise self._wrong(key, value, "it must be true or false")
        return bool(value)

    def one_of(self, key: str, otherwise: str | bool | None, known: tuple[str | bool | None, ...]) -> str | None:
        value = self._said.pop(key, otherwise)
        if not any(value is each or (isinstance(value, str) and value == each) for each in known):
            written = ", ".join(repr(each) for each in known)
            raise self._wrong(key, value, f"an adapter is merged only where it is one of {written}")
        return value if isinstance(value, str) else None

    def nothing_else(self, ignored: frozenset[str]) -> None:
        for key, value in self._said.items():
            if key not in ignored and value not in (None, False, {}, []):
                raise self._wrong(
                    key, value, "which is not supported. Merge the adapter into its base with peft's merge_and_unload"
                )

    def _wrong(self, key: str, value: Any, must: str) -> CheckpointError:
        return CheckpointError(f"{self._file}: {key} is {short(value)}; {must}")


def _is_plain(name: str) -> bool:
    return bool(name) and all(part.replace("_", "").replace("-", "").isalnum() for part in name.split("."))
