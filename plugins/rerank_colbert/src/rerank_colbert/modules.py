"""The modules after the encoder of a late-interaction folder: layers, skipped tokens, and the scale of vectors."""

from __future__ import annotations

from collections.abc import Sequence

from rerank_core import CheckpointError
from rerank_core.spec import Module

__all__ = ["dense_folders", "is_normalized", "skipped_tokens"]

_KNOWN = ("Dense", "MultiVectorMask", "Normalize")


def dense_folders(modules: Sequence[Module]) -> tuple[str, ...]:
    """The folders of the linear layers, in order.

    Raises:
        CheckpointError: a module that changes the vectors in another way, or one that scales vectors before a layer.
    """
    for module in modules:
        if module.kind not in _KNOWN:
            raise CheckpointError(
                f"{module.settings.file}: {module.path!r} is a {module.kind}, which changes the vectors; known are "
                f"{_KNOWN!r}"
            )
    kinds = [module.kind for module in modules]
    if "Normalize" in kinds and "Dense" in kinds[kinds.index("Normalize") :]:
        raise CheckpointError(
            f"the modules after the encoder are {kinds!r}; a Normalize before a Dense is not supported for late "
            "interaction"
        )
    return tuple(module.path for module in modules if module.kind == "Dense")


def is_normalized(modules: Sequence[Module]) -> bool:
    """Whether vectors are scaled to length 1."""
    return any(module.kind == "Normalize" for module in modules)


def skipped_tokens(modules: Sequence[Module]) -> tuple[tuple[str, ...], bool]:
    """The tokens without a vector in documents, and whether they have none in queries either.

    Raises:
        CheckpointError: a MultiVectorMask of another kind.
    """
    masks = [module.settings for module in modules if module.kind == "MultiVectorMask"]
    if len(masks) > 1:
        raise CheckpointError(f"{masks[1].file}: a second MultiVectorMask is not supported; join the two")
    if not masks:
        return (), False
    (mask,) = masks
    if mask.get("keep_only_token_ids"):
        raise mask.wrong("keep_only_token_ids", "to keep only some tokens, as image models do, is not supported")
    given = mask.get("skiplist_tasks")
    tasks = (
        ("document",) if given is None else (given,) if isinstance(given, str) else mask.texts("skiplist_tasks") or ()
    )
    words = mask.texts("skiplist_words") or ()
    if not words or not {"query", "document"} & set(tasks):
        return (), False
    if "document" not in tasks:
        raise mask.wrong("skiplist_tasks", "to skip tokens in queries alone is not supported")
    return words, "query" in tasks
