"""From the groups of a step to forward passes: rows are laid out as in serving, and cut to the token budget.

The objective reads the groups of a pass as padded tensors; the rows of the batch are sorted for speed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy
import torch
from torch import Tensor

from rerank_core import InputError
from rerank_core.backends.torch.base import TorchScorer
from rerank_core.planning.longdoc import FirstP
from rerank_core.planning.row_plan import Job, RowPlan, Rules
from rerank_core.scorer import Batch, Configurable, QueryRow, Row
from rerank_core.types import Document
from rerank_trainers.loop.dataset import Group
from rerank_trainers.loop.gather import Texts

__all__ = ["Pass", "Passes"]


@dataclass(frozen=True, eq=False)
class Pass:
    """Groups that an objective reads together. Those that exceed the token budget run through the model in parts.

    Units are what a part is made of: a document's row. Where query and document are encoded separately, the units are
    the query rows, in the order of the groups, and then the documents' rows.

    Attributes:
        groups: the groups, in the order of the tensors below.
        batch: all rows; ``Row.query`` and the keys of ``batch.queries`` are positions in ``groups``.
        place: ``[groups, docs]``, position of each document in ``batch.rows``; 0 for padding.
        mask: ``[groups, docs]``, True where there is a document.
        labels, teacher: ``[groups, docs]``; None if any group has none.
        weights: ``[groups]``.
        lengths: tokens of each unit, without a prefix that the rows of a query share.
        shared: tokens of the prefix that the rows of a query share, by query.
        leading: number of query rows among the units.
    """

    groups: tuple[Group, ...]
    batch: Batch
    place: Tensor
    mask: Tensor
    labels: Tensor | None
    teacher: Tensor | None
    weights: Tensor
    lengths: tuple[int, ...]
    shared: Mapping[int, int]
    leading: int = 0

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the rows of the groups, for messages."""
        return tuple(group.id for group in self.groups)

    @property
    def tokens(self) -> int:
        """Tokens of the pass with packed rows."""
        return sum(self.lengths) + sum(self.shared.values())

    def texts(self, queries: Sequence[int], documents: Sequence[int]) -> Texts:
        """The texts, given the number of vectors of each query and of each document."""
        hashes = [group.doc_texts for group in self.groups]
        owned = [(self.groups[row.query], row.doc) for row in self.batch.rows]
        return Texts(
            queries,
            documents,
            [row.query for row in self.batch.rows],
            [group.labels is not None and group.labels[doc] > group.floor for group, doc in owned],
            [group.query_text for group in self.groups],
            [hashes[row.query][row.doc] for row in self.batch.rows],
            None if self.labels is None else [(group.labels or ())[doc] for group, doc in owned],
            None if self.teacher is None else [(group.teacher or ())[doc] for group, doc in owned],
            _stacked([group.query_vector for group in self.groups]),
            _stacked([None if group.doc_vectors is None else group.doc_vectors[doc] for group, doc in owned]),
        )

    def parts(self, budget: int, *, packed: bool, alone: bool = False) -> list[range]:
        """Ranges of units that fit the budget, at least one unit each; single units if ``alone``."""
        if alone:
            return [range(unit, unit + 1) for unit in range(len(self.lengths))]
        # Query rows with tokens that are not attended to are padded, which would pad the documents beside them too.
        apart = any(row.attended is not None for row in self.batch.queries.values())
        runs: list[range] = []
        start, queries = 0, set[int]()
        tokens = longest = 0
        for unit, length in enumerate(self.lengths):
            query = self.batch.rows[unit - self.leading].query if unit >= self.leading else -1
            fresh = 0 if query in queries else self.shared.get(query, 0)
            longest = max(longest, length + self.shared.get(query, 0))
            size = tokens + length + fresh if packed else (unit + 1 - start) * longest
            if unit > start and (size > budget or (apart and unit == self.leading)):
                runs.append(range(start, unit))
                start, queries, fresh = unit, set(), self.shared.get(query, 0)
                tokens, longest = 0, length + fresh
            queries.add(query)
            tokens += length + fresh
        return [*runs, range(start, len(self.lengths))]

    def some(self, units: range) -> Batch:
        """A batch of only these units."""
        rows = self.batch.rows[max(0, units.start - self.leading) : max(0, units.stop - self.leading)]
        if not self.leading:
            chosen = {row.query for row in rows}
            return Batch({at: row for at, row in self.batch.queries.items() if at in chosen}, rows)
        queries = list(self.batch.queries.items())[units.start : units.stop]
        return Batch(dict(queries), rows)


@dataclass(frozen=True, slots=True)
class _LaidOut:
    """A group with its rows; their ``query`` is still to be set."""

    group: Group
    query: QueryRow | None
    rows: tuple[Row, ...]
    lengths: tuple[int, ...]

    @property
    def tokens(self) -> int:
        return sum(self.lengths) + (0 if self.query is None else len(self.query.ids))


class Passes:
    """Cuts the groups of a step into passes; the ``collate_fn`` of the DataLoader.

    Args:
        scorer: its tokenizer and template lay out the rows.
        max_length: tokens of a row; documents are cut to fit.
        budget: tokens of a pass. A larger group is a pass of its own, which the trainer computes in parts.
        whole: the objective compares all texts of a step, so a step is one pass, whatever its size.

    Raises:
        InputError: a query that leaves no room for a document.
    """

    def __init__(
        self,
        scorer: TorchScorer,
        max_length: int,
        max_query_length: int | None,
        budget: int,
        *,
        whole: bool = False,
    ) -> None:
        self.scorer = scorer
        self.rules = Rules(FirstP(), max_length, max_query_length)
        self.budget = budget
        self.whole = whole

    def __call__(self, groups: Sequence[Group]) -> dict[str, list[Pass]]:
        """``{"passes": [...]}``; transformers' Trainer passes a mapping through unchanged."""
        laid = [self._laid_out(some, instruction) for instruction, some in _by_instruction(groups).items()]
        if self.whole:
            return {"passes": [self._pass([one for some in laid for one in some])]}
        return {"passes": [one for some in laid for one in self._passes(some)]}

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

    def _laid_out(self, groups: Sequence[Group], instruction: str | None) -> list[_LaidOut]:
        plan = self._planned(groups, instruction)
        rows: list[list[Row]] = [[] for _ in groups]
        lengths: list[list[int]] = [[] for _ in groups]
        for window in plan.windows:
            rows[window.query].append(plan.row(window))
            lengths[window.query].append(window.length)
        return [
            _LaidOut(group, plan.query_rows.get(at), tuple(rows[at]), tuple(lengths[at]))
            for at, group in enumerate(groups)
        ]

    def _passes(self, laid: Sequence[_LaidOut]) -> Iterator[Pass]:
        # Groups of similar length together: less padding for padded rows, fewer kernel calls for packed rows.
        waiting: list[_LaidOut] = []
        for one in sorted(laid, key=lambda one: -max(one.lengths)):
            if waiting and self._tokens([*waiting, one]) > self.budget:
                yield self._pass(waiting)
                waiting = []
            waiting.append(one)
        yield self._pass(waiting)

    def _tokens(self, laid: Sequence[_LaidOut]) -> int:
        """Tokens of a pass of these groups."""
        if self.scorer.packed:
            return sum(one.tokens for one in laid)
        shared = [0 if one.query is None else len(one.query.ids) for one in laid]
        if self.scorer.layout == "separate":
            return sum(len(one.rows) + 1 for one in laid) * max(*shared, *(max(one.lengths) for one in laid))
        longest = max(own + max(one.lengths) for own, one in zip(shared, laid, strict=True))
        return longest * sum(len(one.rows) for one in laid)

    def _pass(self, laid: Sequence[_LaidOut]) -> Pass:
        joint, separate = self.scorer.layout == "joint", self.scorer.layout == "separate"
        ordered = sorted(
            ((at, doc) for at, one in enumerate(laid) for doc in range(len(one.rows))),
            key=lambda place: (0 if joint or separate else place[0], laid[place[0]].lengths[place[1]]),
        )
        column = {place: row for row, place in enumerate(ordered)}
        mask = torch.arange(max(len(one.rows) for one in laid))[None, :] < torch.tensor(
            [[len(one.rows)] for one in laid]
        )
        place = torch.zeros(mask.shape, dtype=torch.long)
        for at, one in enumerate(laid):
            place[at, : len(one.rows)] = torch.tensor([column[at, doc] for doc in range(len(one.rows))])
        queries = {at: one.query for at, one in enumerate(laid) if one.query is not None}
        sizes = {at: len(row.ids) for at, row in queries.items()}
        groups = tuple(one.group for one in laid)
        return Pass(
            groups,
            Batch(queries, [replace(laid[at].rows[doc], query=at) for at, doc in ordered]),
            place,
            mask,
            _targets([group.labels for group in groups], mask),
            _targets([group.teacher for group in groups], mask),
            torch.tensor([group.weight for group in groups]),
            (*(sizes.values() if separate else ()), *(laid[at].lengths[doc] for at, doc in ordered)),
            {} if separate else sizes,
            len(queries) if separate else 0,
        )

    def _named(self, error: InputError, scorer: Any, jobs: Sequence[Job], groups: Sequence[Group]) -> InputError:
        """The error with the id of the row that caused it."""
        for job, group in zip(jobs, groups, strict=True):
            with contextlib.suppress(InputError):
                RowPlan(scorer, [job], self.rules, deduplicate=False)
                continue
            return InputError(f"the row {group.id} cannot be laid out: {error}")
        return error


def _by_instruction(groups: Sequence[Group]) -> dict[str | None, list[Group]]:
    """Groups by their instruction."""
    grouped: dict[str | None, list[Group]] = {}
    for group in groups:
        grouped.setdefault(group.instruction, []).append(group)
    return grouped


def _stacked(vectors: Sequence[Any]) -> Tensor | None:
    """``[texts, width]`` float32; None if any text has no vector."""
    if any(vector is None for vector in vectors):
        return None
    return torch.from_numpy(numpy.stack(vectors).astype("float32"))


def _targets(values: Sequence[tuple[float, ...] | None], mask: Tensor) -> Tensor | None:
    """``[groups, docs]``; None if any group has no values."""
    if any(row is None for row in values):
        return None
    targets = torch.zeros(mask.shape)
    for line, row in enumerate(values):
        targets[line, : len(row or ())] = torch.tensor(row or (), dtype=torch.float32)
    return targets
