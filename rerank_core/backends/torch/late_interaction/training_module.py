"""`training_module`: the module of a loaded model in a form that can be trained."""

from __future__ import annotations

from typing import Any

import torch

from rerank_core.backends.torch.base import TorchScorer
from rerank_core.backends.torch.encoder import straighten
from rerank_core.backends.torch.linear import onednn
from rerank_core.errors import InputError

__all__ = ["training_module"]


def training_module(scorer: TorchScorer) -> torch.nn.Module:
    """The encoder of a loaded embedding or late-interaction model, with plain weights in float32 that all need a
    gradient. The head's layers are its submodule ``projection``, so one object owns all weights, and `scorer_of` makes
    a scorer of it.

    Linear layers that were prepared for oneDNN become plain ones, and a submodule with a method ``dequantized`` is
    replaced by that method's result: a plugin whose weights are compressed has one (`mini-multilingual`'s word
    embeddings stay in 4 bits until then). The scorer gives up its module and must not be used afterwards.

    Raises:
        InputError: a model that reads query and document together, or one in int8, whose weights are lost.
    """
    if scorer.layout != "separate":
        raise InputError(
            f"model {scorer.spec.name!r} reads query and document together; only embedding and late-interaction "
            "models are opened for training through their plugin"
        )
    if scorer.execution.int8:
        raise InputError(f"model {scorer.spec.name!r} was loaded in int8; load it with dtype='float32' to train it")
    straighten.restore(scorer.straightened)
    onednn.restore(scorer.prepacked)
    module: Any = scorer.module
    for parent in list(module.modules()):
        for name, part in list(parent.named_children()):
            if callable(dequantized := getattr(part, "dequantized", None)):
                setattr(parent, name, dequantized())
    project = getattr(scorer, "project", None)
    if project is not None:
        module.projection = project
    module.float().requires_grad_(True)
    trained: torch.nn.Module = module
    return trained
