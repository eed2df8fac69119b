"""The errors of training beside InputError.

RerankError
├── NonFiniteLossError   a loss or gradient is NaN or infinite; the message names the rows
├── CheckpointWriteError a checkpoint cannot be written; earlier checkpoints are kept
└── PublishError         a published folder cannot be written or gives other scores than the trained model
"""

from __future__ import annotations

from rerank_core import RerankError

__all__ = ["CheckpointWriteError", "NonFiniteLossError", "PublishError"]


class NonFiniteLossError(RerankError):
    """A loss or gradient became NaN or infinite; the last checkpoint holds the weights trained so far."""


class CheckpointWriteError(RerankError):
    """A checkpoint could not be written: the disk is full, or the folder is not writable."""


class PublishError(RerankError):
    """A published folder could not be written, or gives other scores in a fresh process than the trained model."""
