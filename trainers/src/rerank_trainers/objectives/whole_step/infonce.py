"""InfoNCE: of all documents of a step, a query's positives must be the most similar to it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

import torch
from torch import Tensor

from rerank_core.errors import InputError, one_of, short
from rerank_trainers.objectives.base import FLOOR, Needs, divide_or_zero
from rerank_trainers.objectives.step import Members, Step
from rerank_trainers.objectives.whole_step.blocks import in_blocks
from rerank_trainers.objectives.whole_step.known_positives import KnownPositives

__all__ = ["Direction", "InfoNCE"]

Direction: TypeAlias = Literal["query_to_doc", "doc_to_query", "query_to_query", "doc_to_doc"]

_DIRECTIONS = ("query_to_doc", "doc_to_query", "query_to_query", "doc_to_doc")
_SAME_SIDE = {"query_to_query", "doc_to_doc"}


@dataclass(frozen=True)
class InfoNCE:
    """InfoNCE: ``log(1 + sum e^{(s_n - s_p) / T})`` over the step's negatives ``n``, mean over the positives ``p``.

    Van den Oord et al., *Representation Learning with Contrastive Predictive Coding*, 2018; in-batch negatives:
    Karpukhin et al., EMNLP 2020; MultipleNegativesRankingLoss of sentence-transformers. Negatives come from all
    processes. A text known to be relevant is no negative: a query's other positives, documents whose text equals one
    of its positives, and positives of other rows with the same query. A query without a positive has the loss 0.

    Attributes:
        in_batch: negatives of a query: ``"all"`` documents of the step; ``"hard_only"``, without the positives of other
            queries (RAG-Retrieval); ``"none"``, only its own documents.
        directions: ``"query_to_doc"`` always; ``"doc_to_query"`` compares each positive with all queries,
            ``"query_to_query"`` the query with other queries, and ``"doc_to_doc"`` each positive with the documents of
            other queries (Li et al., *Towards General Text Embeddings with Multi-stage Contrastive Learning*, 2023).
        partition: with several directions, the sum over all of them is ``"joint"``, or the losses of the directions are
            averaged (``"per_direction"``). As in sentence-transformers, the positive is counted twice in a joint sum
            with ``"doc_to_query"``.
        false_negative_margin: a negative whose similarity, before the temperature, exceeds the positive's by more than
            this is left out, because it is probably relevant (Qwen3-Embedding, 2025: 0.1); None keeps all.

    Raises:
        InputError: an invalid value of an option, or options that contradict each other.
    """

    in_batch: Literal["all", "hard_only", "none"] = "all"
    directions: tuple[Direction, ...] = ("query_to_doc",)
    partition: Literal["joint", "per_direction"] = "joint"
    false_negative_margin: float | None = None

    name: ClassVar[str] = "infonce"
    shift_invariant: ClassVar[bool] = True

    def __post_init__(self) -> None:
        one_of(self.in_batch, ("all", "hard_only", "none"), "in_batch of infonce")
        one_of(self.partition, ("joint", "per_direction"), "partition of infonce")
        if not isinstance(self.directions, list | tuple) or "query_to_doc" not in self.directions:
            raise InputError(
                f"directions of infonce is {short(self.directions)}; it must be a list with 'query_to_doc'"
            )
        for direction in self.directions:
            one_of(direction, _DIRECTIONS, "a direction among the directions of infonce")
        # Their order has no meaning, and a list comes from a configuration.
        ordered = tuple(direction for direction in _DIRECTIONS if direction in self.directions)
        object.__setattr__(self, "directions", ordered)
        if len(ordered) > 1 and self.in_batch != "all":
            raise InputError(
                f"directions of infonce is {ordered!r}, and in_batch {self.in_batch!r}: directions beyond "
                "'query_to_doc' compare texts of all rows; use in_batch 'all'"
            )
        if self.partition == "per_direction" and _SAME_SIDE & set(ordered):
            raise InputError(
                f"directions of infonce is {ordered!r}, and partition 'per_direction': 'query_to_query' and "
                "'doc_to_doc' have no positive of their own; use partition 'joint'"
            )
        margin = self.false_negative_margin
        if margin is not None and (
            isinstance(margin, bool) or not isinstance(margin, int | float) or not math.isfinite(margin)
        ):
            raise InputError(f"false_negative_margin of infonce is {short(margin)}; it must be a number, or None")

    @property
    def needs(self) -> Needs:
        return Needs(
            labels=True,
            docs=1 if self.in_batch == "all" else 2,
            step=True,
            other_rows=self.in_batch == "all",
            vectors=bool(_SAME_SIDE & set(self.directions)),
        )

    def of_step(self, step: Step) -> Tensor:
        """One loss per group, float32 ``[groups]``.

        Raises:
            InputError: the rows have no labels, or the model scores query and document together.
        """
        members = step.all_members()
        if step.labels is None:
            raise InputError("this objective reads `labels`, and the batch has none; every training row must have them")
        with torch.autocast(step.mask.device.type, enabled=False):
            positives = _Positives(step, members, self)
            # [groups, docs]: the loss of each positive, and the similarities, which give queries without a positive a
            # zero in the graph.
            losses = positives.own[step.place].masked_fill(~step.mask, 0) * 0
            places = positives.group, positives.slot
            losses = losses.index_put(places, in_blocks(positives.losses, len(positives.group), losses.device))
            return divide_or_zero(
                losses.sum(-1), torch.zeros_like(losses).index_put(places, losses.new_ones(())).sum(-1)
            )


class _Positives:
    """The positives of this process's queries.

    Attributes:
        group, slot: ``[positives]``, the group of each and its position in the group.
        own: similarities of this process's documents with their queries, before the temperature.
    """

    def __init__(self, step: Step, members: Members, options: InfoNCE) -> None:
        self.step, self.members, self.options = step, members, options
        self.own = step.comparison.own().float()
        self.known = KnownPositives(members)
        first = members.own_documents.start
        self.group, self.slot = (step.mask & members.relevant[step.place + first]).nonzero(as_tuple=True)
        self.place = step.place[self.group, self.slot]
        self.query = members.owner[self.place + first]

    def losses(self, some: Tensor) -> Tensor:
        """The loss of some of the positives, ``[some]``."""
        directions = self.options.directions
        compare: Mapping[Direction, Callable[[Tensor], Tensor]] = {
            "query_to_doc": self._query_to_doc,
            "doc_to_query": self._doc_to_query,
            "query_to_query": self._query_to_query,
            "doc_to_doc": self._doc_to_doc,
        }
        sums = torch.stack([compare[direction](some) for direction in directions])
        if self.options.partition == "per_direction":
            return torch.nn.functional.softplus(sums).mean(0)
        positives = 2.0 if "doc_to_query" in directions else 1.0
        return torch.logaddexp(sums.new_tensor(math.log(positives)), sums.logsumexp(0))

    def _query_to_doc(self, some: Tensor) -> Tensor:
        members = self.members
        allowed = ~self.known.documents_of(self.query[some])
        if self.options.in_batch == "none":
            place = self.step.place[self.group[some]]
            allowed = allowed.gather(1, place + members.own_documents.start) & self.step.mask[self.group[some]]
            return self._log_sum(self.own[place], allowed, some)
        if self.options.in_batch == "hard_only":
            allowed &= ~members.relevant
        # A query's positives follow each other: its row is computed once.
        queries, row = torch.unique_consecutive(self.query[some], return_inverse=True)
        rows = queries - members.own_queries.start
        return self._log_sum(self.step.comparison.between("query", "document", rows)[row], allowed, some)

    def _doc_to_query(self, some: Tensor) -> Tensor:
        allowed = ~self.known.queries_of(self.place[some] + self.members.own_documents.start)
        return self._log_sum(self.step.comparison.between("document", "query", self.place[some]), allowed, some)

    def _query_to_query(self, some: Tensor) -> Tensor:
        texts, query = self.members.query_texts, self.query[some]
        rows = query - self.members.own_queries.start
        return self._log_sum(self.step.comparison.between("query", "query", rows), texts != texts[query][:, None], some)

    def _doc_to_doc(self, some: Tensor) -> Tensor:
        texts, query = self.members.query_texts, self.query[some]
        allowed = ~self.known.documents_of(query) & (texts[self.members.owner] != texts[query][:, None])
        return self._log_sum(self.step.comparison.between("document", "document", self.place[some]), allowed, some)

    def _log_sum(self, similarities: Tensor, allowed: Tensor, some: Tensor) -> Tensor:
        """``log sum e^{(s_n - s_p) / T}`` over the allowed negatives of some positives."""
        above = similarities.float() - self.own[self.place[some]][:, None]
        if self.options.false_negative_margin is not None:
            allowed = allowed & (above <= self.options.false_negative_margin)
        return (above / self.step.temperature).masked_fill(~allowed, FLOOR).logsumexp(1)
