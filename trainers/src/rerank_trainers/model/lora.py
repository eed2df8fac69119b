"""Low-rank adapters (Hu et al., 2021) through peft; a fresh score head is trained whole, and saved, beside them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from rerank_core import CheckpointError, InputError, MissingDependencyError
from rerank_core.backends.torch.lora.merge import adapter_tensors
from rerank_core.spec.adapter_folder import WEIGHTS
from rerank_trainers.config.schema import ModelConfig
from rerank_trainers.model.kind import DEFAULT

__all__ = ["check_saved", "merged", "unquantized", "with_lora"]


def with_lora(module: Any, config: ModelConfig, fresh: Sequence[str]) -> Any:
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
        module = peft.prepare_model_for_kbit_training(module, use_gradient_checkpointing=False)
    whole = _whole(module, config.kind or DEFAULT, fresh)
    chosen = peft.LoraConfig(
        r=options.r,
        lora_alpha=options.alpha,
        lora_dropout=options.dropout,
        target_modules=list(options.targets) or "all-linear",
        exclude_modules=whole or None,
        modules_to_save=whole or None,
        task_type={"cross-encoder": "SEQ_CLS", "llm": "CAUSAL_LM"}.get(config.kind or DEFAULT),
    )
    try:
        # New layers are in training mode, whatever the module they are put into is in.
        return peft.get_peft_model(module, chosen).eval()
    except ValueError as error:
        raise InputError(f"model.lora.targets {list(options.targets)!r}: {error}") from error


def _whole(module: Any, kind: str, fresh: Sequence[str]) -> list[str]:
    """Layers that are trained whole: the heads, and whatever else is fresh, such as a pooler."""
    if kind == "layerwise":
        return ["linear_head"]
    layers = {name.rpartition(".")[0] for name in fresh}
    # peft trains these two as a whole by itself.
    return sorted(name for name in layers if not {"classifier", "score"} & set(name.split(".")))


def merged(module: Any) -> Any:
    """A copy of a module with its adapters merged into plain weights; the module itself where it has none.

    A quantized base is merged as the weights that it computed with, in float32: those are what the adapters were
    trained beside.
    """
    if not hasattr(module, "peft_config"):
        return module
    own = copy.deepcopy(module)
    return unquantized(own) if _is_quantized(own) else own.merge_and_unload()


def check_saved(module: Any, checkpoint: Path) -> None:
    """Refuse to go on from a checkpoint whose adapter is not the whole of the module's: peft would leave the rest as it
    began.

    Raises:
        CheckpointError: names the tensors that are absent, or too many.
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
            f"{'has' if lost else 'has not'} ({len(wrong)} tensors in all); resume from another checkpoint"
        )


def unquantized(module: Any) -> Any:
    """A peft module's model in plain float32 layers, adapters and heads in place; the module is used up."""
    from peft.tuners.lora import LoraLayer
    from peft.utils import ModulesToSaveWrapper
    from peft.utils.integrations import dequantize_module_weight

    plain = module.get_base_model()
    done: list[str] = []
    for name, part in list(plain.named_modules()):
        if name.startswith(tuple(done)):
            continue
        if isinstance(part, ModulesToSaveWrapper):
            made: Any = part.modules_to_save[part.active_adapters[0]]
        elif isinstance(part, LoraLayer) or type(part).__name__ == _QUANTIZED:
            layer: Any = part.get_base_layer() if isinstance(part, LoraLayer) else part
            weight = dequantize_module_weight(layer).detach().float()
            if isinstance(part, LoraLayer):
                weight = weight + sum(part.get_delta_weight(adapter).float() for adapter in part.active_adapters)
            made = torch.nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
            made.weight = torch.nn.Parameter(weight)
            if layer.bias is not None:
                made.bias = torch.nn.Parameter(layer.bias.detach().float())
        else:
            continue
        plain.set_submodule(name, made)
        done.append(f"{name}.")
    for holder in plain.modules():
        # Else transformers would save, and refuse to convert, what is no longer quantized.
        for flag in ("hf_quantizer", "is_quantized", "is_loaded_in_4bit", "quantization_method"):
            vars(holder).pop(flag, None)
    if hasattr(plain.config, "quantization_config"):
        del plain.config.quantization_config
    return plain.float()


_QUANTIZED = "Linear4bit"  # of bitsandbytes


def _is_quantized(module: Any) -> bool:
    return any(type(part).__name__ == _QUANTIZED for part in module.modules())
