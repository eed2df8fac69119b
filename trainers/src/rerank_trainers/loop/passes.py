"""From the groups of a step to forward passes: rows are laid out as in serving, and cut to the token budget.

The objective reads the groups of a pass as padded tensors; the rows of the batch are sorted for speed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rerank_core import InputError
from rerank_core.backends.torch.base import TorchScorer
from rerank_core.planning.longdoc import FirstP
from rerank_core.planning.row_plan import Job, RowPlan, Rules, Window
from rerank_core.scorer import Batch, Configurable
from rerank_core.types import Document
from rerank_trainers.loop.dataset import Group

__all__ = ["Pass", "Passes"]


@dataclass(frozen=True, eq=False)
class Pass:
    """Groups of one forward pass.

    Attributes:
        batch: rows of the groups.
        place: ``[groups, docs]``, row number of each document; 0 for padding.
        mask: ``[groups, docs]``, True where there is a document.
        labels, teacher: ``[groups, docs]``; None if any group has none.
        weights: ``[groups]``.
        ids: ids of the rows of the groups, for messages.
        lengths: tokens of each row without the prefix that its query shares.
        shared: tokens of each query row in ``batch``.
    """

    batch: Batch
    place: Tensor
    mask: Tensor
    labels: Tensor | None
    teacher: Tensor | None
    weights: Tensor
    ids: tuple[str, ...]
    lengths: tuple[int, ...]
    shared: Mapping[int, int]

    @property
    def tokens(self) -> int:
        """Tokens of the pass with packed rows."""
        return sum(self.lengths) + sum(self.shared.values())

    def parts(self, budget: int, *, packed: bool, alone: bool = False) -> list[range]:
        """Ranges of rows that fit the budget, at least one row each; single rows if ``alone``."""
        if alone:
            return [range(row, row + 1) for row in range(len(self.lengths))]
        runs: list[range] = []
        start, queries = 0, set[int]()
        tokens = longest = 0
        for row, length in enumerate(self.lengths):
            query = self.batch.rows[row].query
            fresh = 0 if query in queries else self.shared.get(query, 0)
            longest = max(longest, length + self.shared.get(query, 0))
            size = tokens + length + fresh if packed else (row + 1 - start) * longest
            if row > start and size > budget:
                runs.append(range(start, row))
                start, queries, fresh = row, set(), self.shared.get(query, 0)
                tokens, longest = 0, length + fresh
            queries.add(query)
            tokens += length + fresh
        return [*runs, range(start, len(self.lengths))]

    def some(self, rows: range) -> Batch:
        """A batch of only these rows."""
        chosen = [self.batch.rows[row] for row in rows]
        queries = {row.query: self.batch.queries[row.query] for row in chosen if row.query in self.batch.queries}
        return Batch(queries, chosen)


class Passes:
    """Cuts the groups of a step into passes; the ``collate_fn`` of the DataLoader.

    Args:
        scorer: its tokenizer and template lay out the rows.
        max_length: tokens of a row; documents are cut to fit.
        budget: tokens of a pass. A larger group is a pass of its own, which the trainer computes in parts.

    Raises:
        InputError: a query that leaves no room for a document.
    """

    def __init__(self, scorer: TorchScorer, max_length: int, max_query_length: int | None, budget: int) -> None:
        self.scorer = scorer
        self.rules = Rules(FirstP(), max_length, max_query_length)
        self.budget = budget

    def __call__(self, groups: Sequence[Group]) -> dict[str, list[Pass]]:
        """``{"passes": [...]}``; transformers' Trainer passes a mapping through unchanged."""
        return {
            "passes": [
                one for instruction, some in _by_instruction(groups).items() for one in self._passes(some, instruction)
            ]
        }

    def check(self, groups: Sequence[Group]) -> None:
        """Check that every group can be laid out.

        Raises:
            InputError: a query leaves no room for a document; names its row.
        """
        for instruction, some in _by_instruction(groups).items():
            self._planned(some, instruction)

    def _planned(self, groups: Sequence[Group], instruction: str | None) -> RowPlan:
        scorer: Any = self.scorer
        if instruction is not None and isinstance(scorer, Configurable):
            scorer = scorer.configured({"instruction": instruction})
        jobs = [Job(group.query, tuple(map(Document, group.docs)), at) for at, group in enumerate(groups)]
        try:
            return RowPlan(scorer, jobs, self.rules, deduplicate=False)
        except InputError as error:
            raise self._named(error, scorer, jobs, groups) from error

    def _passes(self, groups: Sequence[Group], instruction: str | None) -> Iterator[Pass]:
        plan = self._planned(groups, instruction)
        windows: list[list[Window]] = [[] for _ in groups]
        for window in plan.windows:
            windows[window.query].append(window)
        # Groups of similar length together: less padding for padded rows, fewer kernel calls for packed rows.
        order = sorted(range(len(groups)), key=lambda at: -max(window.length for window in windows[at]))
        waiting: list[int] = []
        for at in order:
            if waiting and self._tokens(plan, windows, [*waiting, at]) > self.budget:
                yield _pass_of(plan, groups, windows, waiting)
                waiting = []
            waiting.append(at)
        yield _pass_of(plan, groups, windows, waiting)

    def _named(self, error: InputError, scorer: Any, jobs: Sequence[Job], groups: Sequence[Group]) -> InputError:
        """The error with the id of the row that caused it."""
        for job, group in zip(jobs, groups, strict=True):
            with contextlib.suppress(InputError):
                RowPlan(scorer, [job], self.rules, deduplicate=False)
                continue
            return InputError(f"the row {group.id} cannot be laid out: {error}")
        return error

    def _tokens(self, plan: RowPlan, windows: Sequence[Sequence[Window]], chosen: Sequence[int]) -> int:
        shared = {at: len(plan.query_rows[at].ids) if at in plan.query_rows else 0 for at in chosen}
        rows = [(window.length, shared[at]) for at in chosen for window in windows[at]]
        if self.scorer.packed:
            return sum(length for length, _ in rows) + sum(shared.values())
        return len(rows) * max(length + own for length, own in rows)


def _by_instruction(groups: Sequence[Group]) -> dict[str | None, list[Group]]:
    """Groups by their instruction."""
    grouped: dict[str | None, list[Group]] = {}
    for group in groups:
        grouped.setdefault(group.instruction, []).append(group)
    return grouped


def _pass_of(
    plan: RowPlan, groups: Sequence[Group], windows: Sequence[Sequence[Window]], chosen: Sequence[int]
) -> Pass:
    joint = not plan.query_rows
    ordered = sorted(
        ((at, window) for at in chosen for window in windows[at]),
        key=lambda one: (0 if joint else one[0], one[1].length),
    )
    column = {(at, window.doc): row for row, (at, window) in enumerate(ordered)}
    widest = max(len(groups[at].docs) for at in chosen)
    shape = (len(chosen), widest)
    place, mask = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.bool)
    for line, at in enumerate(chosen):
        size = len(groups[at].docs)
        place[line, :size] = torch.tensor([column[at, doc] for doc in range(size)])
        mask[line, :size] = True
    return Pass(
        Batch({at: plan.query_rows[at] for at in chosen if at in plan.query_rows}, [plan.row(w) for _, w in ordered]),
        place,
        mask,
        _targets([groups[at].labels for at in chosen], mask),
        _targets([groups[at].teacher for at in chosen], mask),
        torch.tensor([groups[at].weight for at in chosen]),
        tuple(groups[at].id for at in chosen),
        tuple(window.length for _, window in ordered),
        {at: len(plan.query_rows[at].ids) for at in chosen if at in plan.query_rows},
    )


def _targets(values: Sequence[tuple[float, ...] | None], mask: Tensor) -> Tensor | None:
    """``[groups, docs]``; None if any group has no values."""
    if any(row is None for row in values):
        return None
    targets = torch.zeros(mask.shape)
    for line, row in enumerate(values):
        targets[line, : len(row or ())] = torch.tensor(row or (), dtype=torch.float32)
    return targets
