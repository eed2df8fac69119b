"""Limits the caches of compiled CPU kernels, which would fill with shapes that do not occur again.

Packed batches differ in their number of tokens, so nearly every batch is a new shape. oneDNN and ideep, torch's layer
over it, cache 1,024 kernels each, ideep in every thread: about 400 MB. Both read their capacity from the environment
once, at their first kernel.
"""

from __future__ import annotations

import os

__all__ = ["limit_kernel_caches"]

# More than the shapes of one network's layers, so that other models in the process keep their kernels.
_KERNELS = 128


def limit_kernel_caches() -> None:
    """Set the cache sizes in the environment, unless they are set already.

    This has no effect in a process that has already used oneDNN; set the variables before it starts instead.
    """
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        if name == "LRU_CACHE_CAPACITY" or "DNNL_PRIMITIVE_CACHE_CAPACITY" not in os.environ:
            os.environ.setdefault(name, str(_KERNELS))
