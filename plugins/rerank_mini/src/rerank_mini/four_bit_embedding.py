"""`FourBitEmbedding`: an embedding table that stays in 4-bit blocks; only the rows that are looked up become floats."""

from __future__ import annotations

import torch

from rerank_mini.e5_file import BLOCK, BLOCK_BYTES

__all__ = ["FourBitEmbedding", "dequantized", "scales"]


def dequantized(blocks: torch.Tensor) -> torch.Tensor:
    """The numbers of 4-bit blocks (ggml's ``Q4_0``): ``(nibble - 8) * scale``, low nibbles first.

    Args:
        blocks: uint8 ``[..., 18]``: a scale in half precision and 16 bytes.

    Returns:
        float32 ``[..., 32]``.
    """
    nibbles = blocks[..., 2:]
    both = torch.cat([nibbles & 15, nibbles >> 4], dim=-1).to(torch.float32)
    return both.sub_(8).mul_(scales(blocks))


def scales(blocks: torch.Tensor) -> torch.Tensor:
    """The scales of 4-bit blocks, float32 ``[..., 1]``; the numbers are finite where these are."""
    return blocks[..., :2].contiguous().view(torch.float16).float()


class FourBitEmbedding(torch.nn.Module):
    """An embedding table ``[rows, width]`` in 4-bit blocks.

    Args:
        table: uint8 ``[rows, width / 32 * 18]``, which may be a file mapped into memory.
    """

    def __init__(self, table: torch.Tensor) -> None:
        super().__init__()
        self.num_embeddings = table.shape[0]
        self.embedding_dim = table.shape[1] // BLOCK_BYTES * BLOCK
        self.register_buffer("table", table)
        self.register_buffer("kind", torch.empty(0))  # its dtype follows that of the module

    def dequantized(self) -> torch.nn.Embedding:
        """The table in float32 as a plain embedding, which can be trained: about seven times as large."""
        table = self.get_buffer("table")
        rows = dequantized(table.view(len(table), -1, BLOCK_BYTES)).view(self.num_embeddings, self.embedding_dim)
        return torch.nn.Embedding.from_pretrained(rows, freeze=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """The rows of token ids ``[...]``, as ``[..., width]`` in the module's dtype."""
        table, kind = self.get_buffer("table"), self.get_buffer("kind")
        rows = torch.nn.functional.embedding(ids, table)
        blocks = rows.view(*ids.shape, -1, BLOCK_BYTES)
        return dequantized(blocks).view(*ids.shape, self.embedding_dim).to(kind.dtype)
