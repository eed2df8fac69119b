"""How a scorer runs its module: packed or padded, in int8 or not, owned or borrowed."""

from __future__ import annotations

from dataclasses import dataclass

from rerank_core.options import Options

__all__ = ["Execution"]


@dataclass(frozen=True)
class Execution:
    """How a scorer runs its module.

    Attributes:
        pack: try packed rows, which need no padding; padded rows are used where packed ones change the scores.
        int8: compute the linear layers of the encoder in int8 (`int8.quantize`).
        live: the module belongs to the caller and may be in training: none of its layers is replaced, and it computes
            in the caller's thread.
        threads: threads of the CPU; None for the number of `pool.thread_count`. On a GPU, two or more let one batch be
            prepared while another is computed.
        compiled: translate the layers of decoders with ``torch.compile``. Its effect on a GPU is not measured yet, so
            that no option of ``load`` asks for it; ``benchmarks/gpu.py`` does.
    """

    pack: bool = True
    int8: bool = False
    live: bool = False
    threads: int | None = None
    compiled: bool = False

    @classmethod
    def of(cls, options: Options) -> Execution:
        """For a module that was loaded with these options."""
        return cls(int8=options.dtype == "int8", threads=options.threads)
