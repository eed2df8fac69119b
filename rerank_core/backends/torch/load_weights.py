"""Loads a transformers module from a checkpoint directory and refuses missing, surplus or non-finite weights."""

from __future__ import annotations

import copy
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from rerank_core.backends.config_checks import check_sizes
from rerank_core.backends.fork_safety import Lock
from rerank_core.backends.gguf.folder import gguf_tensors
from rerank_core.backends.torch.configuration import configuration
from rerank_core.backends.torch.gguf_reader import lazy_tensors
from rerank_core.backends.torch.pickle_conversion import conversion_code
from rerank_core.backends.torch.safe_config import check_config, with_safe_settings
from rerank_core.backends.torch.safetensors_reader import check_weights
from rerank_core.backends.torch.workers.devices import device_of
from rerank_core.errors import CheckpointError, MissingDependencyError, RerankError, short
from rerank_core.spec.folders.adapter import is_adapter
from rerank_core.spec.untrusted_files import reason

__all__ = ["configuration", "from_files", "load_module", "max_positions", "move", "position_offset", "quiet"]

# While it loads, transformers changes torch's default dtype for the whole process; `quiet` changes log levels.
_LOADING = Lock()

# transformers' classes of the kinds of model whose weights must all be in the files.
_CLASSES = {
    "classifier": "AutoModelForSequenceClassification",
    "causal": "AutoModelForCausalLM",
    "seq2seq": "AutoModelForSeq2SeqLM",
}

# Encoder-decoders whose encoder alone makes the vectors of sentence-transformers' folders, such as sentence-t5.
_ENCODER_ALONE = ("t5", "mt5", "umt5")

# Names of the weights of queries and keys, alone or together with values.
_QUERY_OR_KEY = re.compile(
    r"\b(?:query|key|(?:q|k|qk|qkv)_?(?:proj|lin|norm)?|w?qkv|in_proj\w*|c_attn)\b", re.IGNORECASE
)
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
    """The transformers model of a directory, in eval mode; from safetensors, without remote code.

    Args:
        kind: ``classifier`` loads a sequence classifier, ``causal`` a causal language model with its output layer,
            ``seq2seq`` an encoder-decoder with its output layer, any other kind the base model.
        config: a transformers configuration that replaces the directory's config.json.
        depth: number of layers to load; by default all.
        pickled: without a safetensors file, read the tensors of ``pytorch_model.bin`` (``weights_only``).
        brought: names of weights that may be missing or of another shape, because an adapter replaces them.

    Raises:
        CheckpointError: files that cannot be loaded, or missing weights that the score depends on.
        MissingDependencyError: a checkpoint whose format needs a package that is not installed.
        InputError: a device that cannot be used.
    """
    import transformers

    target = device_of(device)
    config = config or configuration(directory)
    base = "AutoModelForTextEncoding" if config.model_type in _ENCODER_ALONE else "AutoModel"
    auto = getattr(transformers, _CLASSES.get(kind, base))
    if depth is not None:
        _cut(config, depth)
    torch_dtype = getattr(torch, dtype or "float32")
    module, report = from_files(auto, directory, config, torch_dtype, depth=depth, pickled=pickled)
    missing = sorted(
        key for key in report["missing_keys"] if key not in brought and (kind in _CLASSES or not _pooler(key))
    )
    if missing:
        is_headed = kind in _CLASSES
        advice = "Is this an embedding or base model rather than a reranker?" if is_headed else "Download it again"
        raise CheckpointError(
            f"{directory} lacks weights that the score depends on: {short(missing)}. They would be random, and so "
            f"would the scores. {advice}"
        )
    mismatched = sorted(entry for entry in report["mismatched_keys"] if entry[0] not in brought)
    if mismatched:
        shapes = [f"{key} {list(saved)} not {list(expected)}" for key, saved, expected in mismatched]
        raise CheckpointError(f"{directory}: the shapes of weights differ from config.json: {', '.join(shapes)}")
    loaded: torch.nn.Module = module.to(target).eval()
    return loaded


def from_files(
    auto: Any,
    directory: Path,
    config: Any,
    dtype: torch.dtype,
    *,
    depth: int | None = None,
    pickled: bool = False,
    **kwargs: Any,
) -> tuple[Any, dict[str, Any]]:
    """A transformers module with a folder's weights, and a report of missing, unexpected and mismatched keys.

    No file outside the folder is read, no adapter is applied, and no code from the folder is run.

    Args:
        auto: the transformers class whose ``from_pretrained`` is called.
        depth, pickled: see `load_module`.
        kwargs: further arguments of ``from_pretrained``.

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
    check_sizes(directory)
    source = gguf_tensors(directory)
    try:
        with quiet():
            kind = auto if source is None else _class_of(auto, config)
            module, report = kind.from_pretrained(
                str(directory) if source is None else None,
                state_dict=None if source is None else lazy_tensors(source, dtype),
                config=with_safe_settings(config),
                dtype=dtype,
                use_safetensors=safe if source is None else None,
                local_files_only=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,  # mismatched keys are reported and refused below
                output_loading_info=True,
                **kwargs,
            )
    except RerankError:
        raise
    except ImportError as error:
        raise MissingDependencyError(f"{directory} cannot be loaded: {reason(error)}") from error
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # a damaged file can raise any error in the code that reads it
        raise CheckpointError(f"{directory} cannot be loaded: {reason(error)}") from error
    extra = sorted(
        key
        for key in report["unexpected_keys"]
        if (match := _LAYER.search(key)) and (depth is None or int(match.group(1)) < depth)
    )
    for name in report["missing_keys"] if extra else ():
        if extra[0].endswith(f".{name}"):
            raise CheckpointError(
                f"{directory} has a weight {extra[0]!r}, which config.json's architecture calls {name!r}; rename the "
                f"weights, without {extra[0].removesuffix(name)!r}"
            )
    if extra:
        raise CheckpointError(
            f"{directory} has more layers than config.json says ({extra[0]!r}, {len(extra)} weights in all); without "
            "them the scores would be another model's"
        )
    _check_finite(module, directory)
    return module, report


def _class_of(auto: Any, config: Any) -> Any:
    """The class that an ``AutoModel`` class chooses for a configuration: only that takes tensors without a folder."""
    with torch.device("meta"):
        return type(auto.from_config(copy.deepcopy(config)))


def _check_finite(module: torch.nn.Module, directory: Path) -> None:
    """Refuse NaN or infinity in the weights of queries and keys: attention kernels may ignore such a NaN, and the
    scores stay finite. In other weights it makes the scores NaN, which is an error when they are computed."""
    bad = [
        name
        for name, part in module.named_parameters()
        if part.is_floating_point() and part.numel() and not all(map(torch.isfinite, torch.aminmax(part.detach())))
    ]
    if bad and all(_QUERY_OR_KEY.search(name) for name in bad):
        raise CheckpointError(f"{directory}: {bad[0]} holds NaN or infinity; download the checkpoint again")


def _cut(config: Any, depth: int) -> None:
    """Reduce a configuration to fewer layers, in place."""
    config.num_hidden_layers = depth
    if getattr(config, "layer_types", None) is not None:
        config.layer_types = config.layer_types[:depth]


def _pooler(key: str) -> bool:
    """Whether a weight belongs to the pooler, which token vectors do not use, so that it may be missing."""
    return key.startswith("pooler.") or ".pooler." in key


def max_positions(module: torch.nn.Module) -> int | None:
    """The largest number of tokens of a row; None if the model has no limit.

    An XLM-R with 514 positions takes 512 tokens (`position_offset`). One more token is an index error, after which CUDA
    cannot be used in the process.
    """
    table = _position_table(module)
    if table is not None:
        return table.num_embeddings - position_offset(module)
    limit = getattr(module.config, "max_position_embeddings", None)
    return limit if isinstance(limit, int) and limit > 0 else None


def position_offset(module: torch.nn.Module) -> int:
    """The position id of a row's first token. RoBERTa and related models start after the padding index; only their
    position tables have one."""
    table = _position_table(module)
    return 0 if table is None or table.padding_idx is None else table.padding_idx + 1


def _position_table(module: torch.nn.Module) -> torch.nn.Embedding | None:
    for name, child in module.named_modules():
        if name.endswith("position_embeddings") and isinstance(child, torch.nn.Embedding):
            return child
    return None


def move(module: torch.nn.Module, device: str | None, dtype: str | None) -> None:
    """Move a module to a device, by default the best one, and convert its numbers to ``dtype``, by default float32.

    Raises:
        InputError: a device that cannot be used.
    """
    module.to(device_of(device), getattr(torch, dtype or "float32"))


@contextmanager
def quiet() -> Iterator[None]:
    """Turns transformers' progress bars and load report off while it loads or saves, and restores them afterwards.

    `load_module` checks what the report would say and raises an error where it matters.
    """
    from huggingface_hub import constants
    from huggingface_hub import utils as hub
    from transformers.utils import logging as transformers_logging

    logger = logging.getLogger("transformers")
    # HF_HUB_DISABLE_PROGRESS_BARS=0 in the environment keeps the bars.
    keep_bars = constants.HF_HUB_DISABLE_PROGRESS_BARS is False
    with _LOADING:
        level, bars = logger.level, transformers_logging.is_progress_bar_enabled()
        hub_bars = not hub.are_progress_bars_disabled()
        logger.setLevel(logging.ERROR)
        if bars and not keep_bars:
            transformers_logging.disable_progress_bar()  # huggingface_hub's too
        try:
            yield
        finally:
            logger.setLevel(level)
            if bars and not keep_bars:
                transformers_logging.enable_progress_bar()
                if not hub_bars:
                    hub.disable_progress_bars()
