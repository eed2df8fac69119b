"""Checkpoint directory to module: device, dtype, quiet loading, and no head that was never trained."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from rerank_core.backends.after_fork import Lock
from rerank_core.backends.config_claims import check_claims, check_files
from rerank_core.backends.torch.pickle_conversion import conversion_code
from rerank_core.backends.torch.safe_config import check_config, with_safe_settings
from rerank_core.backends.torch.safetensors_reader import check_weights
from rerank_core.errors import CheckpointError, InputError, MissingDependencyError, RerankError, short
from rerank_core.spec.adapter_folder import is_adapter
from rerank_core.spec.untrusted_files import read_json, reason

__all__ = ["configuration", "from_files", "load_module", "max_positions", "position_offset", "quiet"]

# transformers changes settings of the whole process while it loads (torch's default dtype, and ours below).
_ONE_AT_A_TIME = Lock()


# Weights that make queries and keys, alone or with values.
_ASKED = re.compile(r"\b(?:query|key|(?:q|k|qk|qkv)_?(?:proj|lin|norm)?|w?qkv|in_proj\w*|c_attn)\b", re.IGNORECASE)
_LAYER = re.compile(r"\.layers?\.(\d+)\.")


def load_module(
    directory: Path,
    kind: str,
    *,
    device: str | None,
    dtype: str | None,
    config: Any = None,
    depth: int | None = None,
    pickled: bool = False,
    brought: frozenset[str] = frozenset(),
) -> torch.nn.Module:
    """The transformers model in a directory, in eval mode. safetensors only, no remote code.

    Args:
        kind: of the head: ``classifier`` loads a sequence classifier, ``causal`` a causal language model
            with its output layer, anything else the bare model.
        config: a transformers configuration in place of the directory's config.json.
        depth: how many layers to load, at most those there are; by default all.
        pickled: where there is no safetensors, take ``pytorch_model.bin``, read as tensors and nothing else.
        brought: weights that need not be there, or may be of another shape, because an adapter replaces them.

    Raises:
        CheckpointError: files that cannot be loaded, or weights missing that a score depends on.
        MissingDependencyError: a checkpoint whose format needs a package that is not installed.
    """
    from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification

    place = _device(device)
    whole: dict[str, Any] = {"classifier": AutoModelForSequenceClassification, "causal": AutoModelForCausalLM}
    auto = whole.get(kind, AutoModel)
    config = config or configuration(directory)
    if depth is not None:
        _cut(config, depth)
    number = getattr(torch, dtype or "float32")
    module, report = from_files(auto, directory, config, number, depth=depth, pickled=pickled)
    missing = sorted(
        key for key in report["missing_keys"] if key not in brought and (kind in whole or not _pooler(key))
    )
    if missing:
        raise CheckpointError(
            f"{directory} lacks weights that the score depends on: {missing!r}. They would be random, and so would the "
            "scores. Is this an embedding or base model rather than a reranker?"
        )
    mismatched = sorted(found for found in report["mismatched_keys"] if found[0] not in brought)
    if mismatched:
        shapes = [f"{key} {list(saved)} not {list(told)}" for key, saved, told in mismatched]
        raise CheckpointError(f"{directory}: weights of other shapes than config.json says: {', '.join(shapes)}")
    if kind == "classifier" and module.config.num_labels != 1:
        raise CheckpointError(f"{directory} has {module.config.num_labels} labels; a reranker has one")
    loaded: torch.nn.Module = module.to(place).eval()
    return loaded


def from_files(
    auto: Any,
    directory: Path,
    config: Any,
    dtype: torch.dtype,
    *,
    depth: int | None = None,
    pickled: bool = False,
    **more: Any,
) -> tuple[Any, dict[str, Any]]:
    """A module of transformers with a folder's weights, and transformers' report of what was missing, unexpected or of
    other shapes. Nothing outside the folder is read, no adapter is laid over it, and no code of its choosing is run.

    Args:
        auto: the class of transformers that makes the module.
        depth, pickled: see `load_module`.
        more: for ``from_pretrained``.

    Raises:
        CheckpointError: files that cannot be loaded.
        MissingDependencyError: a checkpoint whose format needs a package that is not installed.
    """
    if is_adapter(directory):
        raise CheckpointError(f"{directory} holds an adapter where a whole model is needed; give its base model")
    check_config(directory / "config.json")
    safe = check_weights(directory, quantized=getattr(config, "quantization_config", None) is not None)
    if not safe and not pickled and any(directory.glob("pytorch_model*.bin")):
        raise CheckpointError(
            f"{directory} has no safetensors, only a pickled file, which is not opened. "
            + conversion_code(directory, "pytorch_model*.bin")
        )
    if not safe and not (pickled and (directory / "pytorch_model.bin").is_file()):
        raise CheckpointError(f"{directory} has no weights: no model.safetensors, and no index of its shards")
    check_claims(directory)
    try:
        with quiet():
            module, report = auto.from_pretrained(
                str(directory),
                config=with_safe_settings(config),
                dtype=dtype,
                use_safetensors=safe,
                local_files_only=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,  # so that they are reported, and refused by name
                output_loading_info=True,
                **more,
            )
    except RerankError:
        raise
    except ImportError as error:
        raise MissingDependencyError(f"{directory} cannot be loaded: {reason(error)}") from error
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever a damaged or malformed file makes of the code that reads it
        raise CheckpointError(f"{directory} cannot be loaded: {reason(error)}") from error
    extra = sorted(
        key
        for key in report["unexpected_keys"]
        if (found := _LAYER.search(key)) and (depth is None or int(found.group(1)) < depth)
    )
    if extra:
        raise CheckpointError(
            f"{directory} holds layers that config.json does not count ({extra[0]!r}, {len(extra)} weights in all); "
            "without them the scores would be another model's"
        )
    _check_finite(module, directory)
    return module, report


def _check_finite(module: torch.nn.Module, directory: Path) -> None:
    """Refuse queries and keys that are no numbers: kernels of attention drop such a NaN, and the scores are finite all
    the same. Anywhere else it shows in the scores that it spoils, which is said when they are computed."""
    bad = [
        name
        for name, part in module.named_parameters()
        if part.is_floating_point() and part.numel() and not all(map(torch.isfinite, torch.aminmax(part.detach())))
    ]
    if bad and all(_ASKED.search(name) for name in bad):
        raise CheckpointError(f"{directory}: {bad[0]} holds NaN or infinity; download the checkpoint again")


def configuration(directory: Path) -> Any:
    """The transformers configuration of a directory.

    Raises:
        CheckpointError: none that can be read, or a kind of model that this transformers does not know.
    """
    from transformers import CONFIG_MAPPING, AutoConfig

    check_files(directory)
    said = read_json(directory / "config.json")
    kind = said.of("model_type", str, "")
    if said.inner("auto_map") and kind not in CONFIG_MAPPING:
        raise CheckpointError(
            f"{said.file}: a model of type {kind!r} is code in the folder itself (auto_map), which is never run, and "
            "this transformers has no model of that type. Load it by the name that a plugin gives it, as `rerank "
            "models` lists them, with checkpoint=<this directory>; or upgrade transformers, if it has the type by now"
        )
    try:
        return AutoConfig.from_pretrained(str(directory), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers raises dozens of kinds for settings that make no sense
        raise CheckpointError(f"{directory / 'config.json'} cannot be loaded: {reason(error)}") from error


def _cut(config: Any, depth: int) -> None:
    """Make a configuration one of fewer layers."""
    config.num_hidden_layers = depth
    if getattr(config, "layer_types", None) is not None:
        config.layer_types = config.layer_types[:depth]


def _pooler(key: str) -> bool:
    """Late interaction reads token vectors, so a pooler that was never saved harms nothing."""
    return key.startswith("pooler.") or ".pooler." in key


def max_positions(module: torch.nn.Module) -> int | None:
    """The longest row a model can read.

    An XLM-R with 514 positions reads 512 tokens (`position_offset`); one more is an index error, on CUDA one that
    poisons the process.
    """
    table = _position_table(module)
    if table is not None:
        return table.num_embeddings - position_offset(module)
    limit = getattr(module.config, "max_position_embeddings", None)
    return limit if isinstance(limit, int) and limit > 0 else None


def position_offset(module: torch.nn.Module) -> int:
    """The position of a row's first token: RoBERTa and its kin start counting after the padding index, and there,
    and only there, the position table has one."""
    table = _position_table(module)
    return 0 if table is None or table.padding_idx is None else table.padding_idx + 1


def _position_table(module: torch.nn.Module) -> torch.nn.Embedding | None:
    for name, child in module.named_modules():
        if name.endswith("position_embeddings") and isinstance(child, torch.nn.Embedding):
            return child
    return None


def _device(name: str | None) -> torch.device:
    if name is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).tolist()  # the meta device makes tensors that hold nothing
    except (RuntimeError, AssertionError, ImportError) as error:
        said = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(
            f"device {short(name)} cannot be used here: {said}. Without it, the best one is used"
        ) from error
    if device.type == "cpu" and device.index:
        raise InputError(f"device {name!r} cannot be used here: there is one CPU device, 'cpu'")
    return device


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bar and no load report from transformers while it loads or saves; all as it was afterwards.

    What the report would say is checked by `load_module` and raised where it matters.
    """
    from huggingface_hub import constants
    from huggingface_hub import utils as hub
    from transformers.utils import logging as transformers_logging

    logger = logging.getLogger("transformers")
    # Where the environment asks for bars, it has the last word.
    asked_for = constants.HF_HUB_DISABLE_PROGRESS_BARS is False
    with _ONE_AT_A_TIME:
        level, bars = logger.level, transformers_logging.is_progress_bar_enabled()
        hub_bars = not hub.are_progress_bars_disabled()
        logger.setLevel(logging.ERROR)
        if bars and not asked_for:
            transformers_logging.disable_progress_bar()  # the hub's too
        try:
            yield
        finally:
            logger.setLevel(level)
            if bars and not asked_for:
                transformers_logging.enable_progress_bar()
                if not hub_bars:
                    hub.disable_progress_bars()
