"""`label_score`: from the logits of a classifier's labels to one score a row; `check_labels`: whose labels they are."""

from __future__ import annotations

from typing import Any

import torch

from rerank_core.errors import CheckpointError, short
from rerank_core.spec import ModelSpec
from rerank_core.spec.labels import is_unnamed

__all__ = ["check_labels", "label_score"]


def label_score(logits: torch.Tensor, label: int) -> torch.Tensor:
    """Scores ``[rows]`` in float32: the log-odds of one label against all others.

    For two labels it is the difference of their logits; a single label's logit is the score itself.

    Args:
        logits: ``[rows, labels]``.
        label: the number of the label.
    """
    logits = logits.float()
    if logits.shape[1] == 1:
        return logits[:, 0]
    others = torch.cat([logits[:, :label], logits[:, label + 1 :]], dim=1)
    return logits[:, label] - torch.logsumexp(others, dim=1)


def check_labels(module: Any, spec: ModelSpec) -> None:
    """Refuse a module whose labels are not those of the spec's head: the score would be that of another label.

    Raises:
        CheckpointError: names both.
    """
    count = getattr(module.config, "num_labels", None)
    expected = spec.head.labels if spec.head is not None else ()
    if count != max(1, len(expected)):
        raise CheckpointError(
            f"model {spec.name!r}: the module has {count} labels, and the model's head has {max(1, len(expected))}. "
            "Load the folder by its path; of several labels, the option label= names the one that is the score"
        )
    names = getattr(module.config, "id2label", None) or {}
    found = tuple(str(names.get(number)) for number in range(len(expected)))
    if found != expected and not is_unnamed(found) and not is_unnamed(expected):
        raise CheckpointError(
            f"model {spec.name!r}: its head has the labels {short(list(expected))}, and the module's config has "
            f"{short(list(found))}"
        )
