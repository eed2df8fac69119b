"""`DecoderClassifier`: sequence classifiers made from decoders, whose rows share a prefix as in causal models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from rerank_core.backends.literal_frame import behind_prefixes
from rerank_core.backends.torch.decoder.heads import ClassHead
from rerank_core.backends.torch.decoder.paired import PairedDecoder
from rerank_core.errors import CheckpointError
from rerank_core.scorer import Batch, Output, QueryRow

__all__ = ["DecoderClassifier"]


class DecoderClassifier(PairedDecoder):
    """Scores a row by the classifier's logit at its last token."""

    score_head: ClassHead

    def score(self, batch: Batch) -> Output:
        return super().score(without_padding(batch, self._padding))

    @property
    def _padding(self) -> int | None:
        padding: int | None = getattr(self.module.config, "pad_token_id", None)
        return padding

    # ------------------------------------------------------------------ training
    def packing_variants(self) -> list[dict[str, Any]]:
        # transformers' classifier gives one score for each row of its input, so a trainer pads.
        return [] if self.execution.live else super().packing_variants()

    def forward_inputs(self, batch: Batch, *, packed: bool) -> dict[str, Any]:
        """Inputs of the classifier around `module`. The rows are padded, whatever ``packed`` says.

        Raises:
            CheckpointError: no padding token.
        """
        if self._padding is None and len(batch.rows) > 1:
            raise CheckpointError(
                f"model {self.spec.name!r}: config.json has no pad_token_id, by which the classifier finds the last "
                "token of each row of a batch in training; set it to the id of the tokenizer's padding token"
            )
        prefixes, rows, owners, _ = behind_prefixes(batch)
        joined = [[*prefixes[owner], *row] for owner, row in zip(owners, rows, strict=True)]
        return self.module_inputs(joined, [None] * len(joined), packed=False)

    def parts_from(self, output: Any, batch: Batch) -> dict[str, torch.Tensor]:
        return {"scores": self.score_head.one_score(output.logits)}


def without_padding(batch: Batch, filler: int | None) -> Batch:
    """The batch with each row cut after the last token that is not ``filler``.

    transformers reads a classifier there, so a row that ends with the padding token, which may be the end-of-sequence
    token, is read before it. Later tokens do not change the hidden state of an earlier one. Of a row that is padding
    alone, transformers reads the first token.

    Args:
        filler: the id of the padding token; None if the model has none.
    """
    if filler is None or not any(not row.ids or _ends_with(row.ids, filler) for row in batch.rows):
        return batch
    queries, rows = dict(batch.queries), []
    for row in batch.rows:
        ids, owner = _cut(row.ids, filler), row.query
        if not ids and owner in queries and _ends_with(queries[owner].ids, filler):
            # Another prefix under another key: the query's other rows need the whole one.
            prefix, owner = queries[owner].ids, -1 - owner
            queries[owner] = QueryRow(_cut(prefix, filler) or prefix[:1])
        elif not ids and (owner not in queries or not queries[owner].ids):
            ids = row.ids[:1]
        segment, span = ((min(start, len(ids)), min(stop, len(ids))) for start, stop in (row.segment, row.span))
        rows.append(replace(row, query=owner, ids=ids, segment=segment, span=span))
    return Batch(queries, rows)


def _ends_with(ids: Sequence[int], filler: int) -> bool:
    return len(ids) > 0 and ids[-1] == filler


def _cut(ids: Sequence[int], filler: int) -> Sequence[int]:
    stop = len(ids)
    while stop and ids[stop - 1] == filler:
        stop -= 1
    return ids[:stop]
