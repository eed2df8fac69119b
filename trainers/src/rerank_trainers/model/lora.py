"""LoRA (Hu et al., 2021) through peft; a fresh score head is trained and saved in full beside the adapters."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from rerank_core import CheckpointError, InputError, MissingDependencyError
from rerank_core.backends.torch.lora.merge import adapter_tensors
from rerank_core.spec.folders.adapter import WEIGHTS
from rerank_trainers.config.schema import ModelConfig

__all__ = ["check_saved", "merged", "plain_module", "unquantized", "with_lora"]


def plain_module(module: Any) -> Any:
    """The transformers model, adapters included, without peft's wrapper around it."""
    return module.get_base_model() if hasattr(module, "peft_config") else module


def with_lora(module: Any, config: ModelConfig, full: Sequence[str], *, task: str | None) -> Any:
    """The module with adapters; the module itself without ``model.lora``.

    Args:
        full: names of modules that are trained in full: score heads, and layers that start at random.
        task: peft's name of the task.

    Raises:
        MissingDependencyError: peft is not installed.
        InputError: no layer has one of the names in ``targets``.
    """
    options = config.lora
    if options is None:
        return module
    try:
        import peft
    except ModuleNotFoundError as error:
        raise MissingDependencyError("lora needs peft: pip install 'rerank-trainers[lora]'") from error
    if options.bits is not None:
        module = peft.prepare_model_for_kbit_training(module, use_gradient_checkpointing=False)
    lora_config = peft.LoraConfig(
        r=options.r,
        lora_alpha=options.alpha,
        lora_dropout=options.dropout,
        target_modules=list(options.targets) or "all-linear",
        exclude_modules=list(full) or None,
        modules_to_save=list(full) or None,
        task_type=task,
    )
    try:
        with warnings.catch_warnings():
            # peft reads an attribute that transformers renamed.
            warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
            # peft adds its layers in training mode.
            return peft.get_peft_model(module, lora_config).eval()
    except ValueError as error:
        raise InputError(f"model.lora.targets {list(options.targets)!r}: {error}") from error


def merged(module: Any) -> Any:
    """A copy of a module with its adapters merged into the weights; the module itself if it has no adapters.

    A quantized base is dequantized to float32 first: the adapters were trained on these values.
    """
    if not hasattr(module, "peft_config"):
        return module
    twin = copy.deepcopy(module)
    return unquantized(twin) if _is_quantized(twin) else twin.merge_and_unload()


def check_saved(module: Any, checkpoint: Path) -> None:
    """Refuse to resume from a checkpoint whose adapter tensors differ in name: peft would skip them without an error.

    Raises:
        CheckpointError: names a tensor that is missing, or one too many.
    """
    if not hasattr(module, "peft_config"):
        return
    import peft

    wanted = set(peft.get_peft_model_state_dict(module, save_embedding_layers=False))
    held = set(adapter_tensors(checkpoint, checkpoint / WEIGHTS).written.values())
    if wrong := sorted(wanted ^ held):
        lost = wrong[0] in wanted
        raise CheckpointError(
            f"{checkpoint} {'lacks' if lost else 'holds'} {wrong[0]!r}, which the run's adapter "
            f"{'has' if lost else 'does not have'} ({len(wrong)} tensors in all); resume from another checkpoint"
        )


def unquantized(module: Any) -> Any:
    """Merge adapters and heads of a peft module into plain float32 layers, in place; returns the transformers model."""
    from peft.tuners.lora import LoraLayer
    from peft.utils import ModulesToSaveWrapper
    from peft.utils.integrations import dequantize_module_weight

    plain = module.get_base_model()
    done: list[str] = []
    for name, part in list(plain.named_modules()):
        if name.startswith(tuple(done)):
            continue
        if isinstance(part, ModulesToSaveWrapper):
            replacement: Any = part.modules_to_save[part.active_adapters[0]]
        elif isinstance(part, LoraLayer) or type(part).__name__ == _QUANTIZED:
            layer: Any = part.get_base_layer() if isinstance(part, LoraLayer) else part
            weight = dequantize_module_weight(layer).detach().float()
            if isinstance(part, LoraLayer):
                weight = weight + sum(part.get_delta_weight(adapter).float() for adapter in part.active_adapters)
            replacement = torch.nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
            replacement.weight = torch.nn.Parameter(weight)
            if layer.bias is not None:
                replacement.bias = torch.nn.Parameter(layer.bias.detach().float())
        else:
            continue
        plain.set_submodule(name, replacement)
        done.append(f"{name}.")
    for holder in plain.modules():
        # transformers would still treat the model as quantized when it saves or converts it.
        for flag in ("hf_quantizer", "is_quantized", "is_loaded_in_4bit", "quantization_method"):
            vars(holder).pop(flag, None)
    if hasattr(plain.config, "quantization_config"):
        del plain.config.quantization_config
    return plain.float()


_QUANTIZED = "Linear4bit"  # of bitsandbytes


def _is_quantized(module: Any) -> bool:
    return any(type(part).__name__ == _QUANTIZED for part in module.modules())
