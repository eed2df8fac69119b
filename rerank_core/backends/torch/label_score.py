"""`label_score`: from the logits of a classifier's labels to one score a row."""

from __future__ import annotations

import torch

__all__ = ["label_score"]


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
