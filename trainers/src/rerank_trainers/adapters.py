"""Low-rank adapters (Hu et al., 2021) through peft; a fresh score head is trained whole, and saved, beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rerank_core import InputError, MissingDependencyError
from rerank_trainers.config import ModelConfig

__all__ = ["adapted", "merged"]


def adapted(module: Any, config: ModelConfig, fresh: Sequence[str]) -> Any:
    """The module with adapters, or itself where the configuration asks for none.

    Args:
        fresh: weights that no checkpoint had: their layers are trained whole.

    Raises:
        MissingDependencyError: peft is not installed.
        InputError: no layer of the names asked for.
    """
    options = config.lora
    if options is None:
        return module
    try:
        import peft
    except ModuleNotFoundError as error:
        raise MissingDependencyError("lora needs peft: pip install 'rerank-trainers[lora]'") from error
    if options.bits is not None:
        module = peft.prepare_model_for_kbit_training(module, use_gradient_checkpointing=config.gradient_checkpointing)
    classifies = config.kind == "cross-encoder"
    # peft trains heads called classifier or score by itself; a pooler that was never saved needs it too.
    whole = sorted({name.rpartition(".")[0].split(".")[-2] for name in fresh if ".pooler." in f".{name}"})
    chosen = peft.LoraConfig(
        r=options.r,
        lora_alpha=options.alpha,
        lora_dropout=options.dropout,
        target_modules=list(options.targets) or "all-linear",
        modules_to_save=whole or None,
        task_type="SEQ_CLS" if classifies else "CAUSAL_LM",
    )
    try:
        return peft.get_peft_model(module, chosen)
    except ValueError as error:
        raise InputError(f"model.lora.targets {list(options.targets)!r}: {error}") from error


def merged(module: Any) -> Any:
    """A copy of a module with its adapters merged into plain weights; the module itself where it has none."""
    if not hasattr(module, "peft_config"):
        return module
    import copy

    return copy.deepcopy(module).merge_and_unload()
