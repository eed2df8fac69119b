"""The process's memory: what libraries keep of it, and errors that say none is left."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os

import torch

__all__ = ["keep_freed_memory", "limit_kernel_caches", "memory_ran_out", "return_freed_memory"]

# More than the shapes of one network's layers, so that other models in the process keep their kernels.
_KERNELS = 128
# The parameters' numbers in glibc's malloc.h. 32 MB is the largest threshold that it accepts.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST_BLOCK, _MOST_KEPT = 32 << 20, 128 << 20


def limit_kernel_caches() -> None:
    """Set the sizes of the caches of compiled CPU kernels in the environment, unless they are set already.

    Packed batches differ in their number of tokens, so nearly every batch is a new shape. oneDNN and ideep, torch's
    layer over it, cache 1,024 kernels each, ideep in every thread: about 400 MB. Both read their capacity once, at
    their first kernel: this has no effect in a process that has already used oneDNN; set the variables before it
    starts instead.
    """
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        if name == "LRU_CACHE_CAPACITY" or "DNNL_PRIMITIVE_CACHE_CAPACITY" not in os.environ:
            os.environ.setdefault(name, str(_KERNELS))


@functools.cache
def keep_freed_memory() -> bool:
    """Let glibc keep the memory of a batch's intermediate results, some megabytes each, for the next batch.

    By default it returns such memory to the kernel, which fills each page with zeros when the next operation takes it:
    a third of the time in int8. The process keeps what its largest batch needed, or 128 MB where it can give back more.
    Another C library, or limits that the user has set in the environment (``MALLOC_...``, ``GLIBC_TUNABLES``), stay as
    they are.

    Returns:
        whether the limits were set.
    """
    if any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ):
        return False
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018 -- mallopt of another library may mean something else
        set_limit = library.mallopt
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows
        return False
    return all(set_limit(*limit) for limit in ((_MMAP_THRESHOLD, _LARGEST_BLOCK), (_TRIM_THRESHOLD, _MOST_KEPT)))


def return_freed_memory() -> None:
    """Return the memory that loading has freed to the system: the texts of a large vocabulary leave 400 MB in pieces.

    Another C library than glibc does nothing.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def memory_ran_out(error: RuntimeError) -> bool:
    """Whether an error of torch says that memory could not be allocated: on a CPU it has no class of its own."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
