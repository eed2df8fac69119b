"""The caches of compiled kernels, which torch keeps for every new shape on the CPU, bounded.

Rows are never padded, so nearly every batch has a new number of tokens. oneDNN and ideep, torch's layer over it, keep
1,024 kernels each, ideep in every thread: some 400 MB, which no shape asks for again. Both read their capacity once,
from the environment, at their first kernel.
"""

from __future__ import annotations

import os

__all__ = ["bound"]

# A network's layers have fewer shapes than this, so that a model of somebody else's keeps its kernels.
_KERNELS = 128


def bound() -> None:
    """Ask for smaller caches, unless the environment says how large they are.

    In a process that has used oneDNN already they stay as they are; the same variables set before it starts help then.
    """
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        if name == "LRU_CACHE_CAPACITY" or "DNNL_PRIMITIVE_CACHE_CAPACITY" not in os.environ:
            os.environ.setdefault(name, str(_KERNELS))
