"""What can go wrong while training, beside bad input.

RerankError
├── NonFiniteLossError   a loss or gradient is NaN or infinite; names the rows
├── CheckpointWriteError a checkpoint cannot be written; those before it stand
└── PublishError         a published folder does not score as the model that was trained
"""

from __future__ import annotations

from rerank_core import RerankError

__all__ = ["CheckpointWriteError", "NonFiniteLossError", "PublishError"]


class NonFiniteLossError(RerankError):
    """A loss or gradient became NaN or infinite; what was trained so far is in the last checkpoint."""


class CheckpointWriteError(RerankError):
    """A checkpoint of a run could not be written: a full disk, or a folder that cannot be written to."""


class PublishError(RerankError):
    """A published folder, loaded in a fresh process, does not give the scores of the model it was made of; or it
    could not be written."""
