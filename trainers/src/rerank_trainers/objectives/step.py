"""`Step`: what an objective reads of a training step: the scores of each query's own documents, and, for models that
encode query and document separately, the similarity of all queries and documents of the step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, Protocol, TypeAlias

from torch import Tensor

from rerank_core.errors import InputError

__all__ = ["Comparison", "Members", "Scored", "Side", "Step"]

Side: TypeAlias = Literal["query", "document"]

_TOGETHER = "this objective compares all texts of a step, and the model scores query and document together"


@dataclass(frozen=True, eq=False)
class Members:
    """All queries and documents of a step, over all processes, without their vectors.

    This process's own queries and documents follow each other: ``own_queries`` and ``own_documents`` are ranges of
    positions among all.

    Attributes:
        owner: ``[documents]`` int64, the position of the query that a document belongs to.
        relevant: ``[documents]`` bool, whether its label is above that of an irrelevant document; False without labels.
        query_texts: ``[queries]`` int64, equal for equal texts.
        document_texts: ``[documents]`` int64, equal for equal texts.
        labels, teacher: ``[documents]``; None if any row of the step has none.
        teacher_vectors: a teacher's vectors of all queries and documents, ``[all, width]`` by side; None without a
            teacher.
    """

    owner: Tensor
    relevant: Tensor
    query_texts: Tensor
    document_texts: Tensor
    own_queries: range
    own_documents: range
    labels: Tensor | None = None
    teacher: Tensor | None = None
    teacher_vectors: Mapping[Side, Tensor] | None = None


class Comparison(Protocol):
    """Compares the representations of a step. It holds those of all processes.

    The gradient of the sum of all processes' losses must reach every representation: a process's loss depends on the
    representations of the others, and its gradient of them is added to theirs.
    """

    def own(self) -> Tensor:
        """Scores of this process's documents with their own queries, ``[own documents]``; with several layers
        ``[own documents, layers]``, the deepest last."""
        ...

    def own_all(self) -> Tensor:
        """Scores of all processes' documents with their own queries, ``[all documents]``.

        Raises:
            InputError: the model scores query and document together.
        """
        ...

    def between(self, left: Side, right: Side, rows: Tensor | None = None) -> Tensor:
        """Similarities ``[own members of the left side, all members of the right side]``. The similarity of a query and
        a document is that of the document and the query.

        Args:
            rows: positions among this process's members of the left side, int64; only these are compared. Objectives
                call it for a few rows at a time, and once more in the backward pass, to keep few similarities.

        Raises:
            InputError: the model scores query and document together, or does not compare these sides.
        """
        ...

    def vectors(self, side: Side) -> Tensor:
        """This process's vectors of one side, ``[own, width]`` float32, one per text.

        Raises:
            InputError: the model has no vector of a whole text.
        """
        ...

    def all_vectors(self, side: Side) -> Tensor:
        """All processes' vectors of one side, ``[all, width]`` float32; otherwise as `vectors`."""
        ...

    def truncated(self, width: int) -> Comparison:
        """The same comparison with the first ``width`` values of each vector, scaled to length 1 again (Matryoshka).

        Raises:
            InputError: the vectors have fewer values, or the model scores query and document together.
        """
        ...


@dataclass(frozen=True, eq=False)
class Scored:
    """The `Comparison` of a model that scores query and document together.

    Attributes:
        scores: ``[own documents]`` or ``[own documents, layers]``.
    """

    scores: Tensor

    def own(self) -> Tensor:
        """The scores."""
        return self.scores

    def own_all(self) -> Tensor:
        """Raises InputError: the scores of other processes are not exchanged."""
        raise InputError(_TOGETHER)

    def between(self, left: Side, right: Side, rows: Tensor | None = None) -> Tensor:
        """Raises InputError: such a model compares no other texts."""
        raise InputError(_TOGETHER)

    def vectors(self, side: Side) -> Tensor:
        """Raises InputError: such a model has no vectors."""
        raise InputError("this objective reads vectors, and the model scores query and document together")

    all_vectors = vectors

    def truncated(self, width: int) -> Comparison:
        """Raises InputError: such a model has no vectors."""
        raise InputError("Matryoshka needs vectors, and the model scores query and document together")


@dataclass(frozen=True, eq=False)
class Step:
    """A step as an objective reads it. The groups are this process's queries.

    Attributes:
        comparison: compares the representations of the step.
        place: ``[groups, docs]`` int64, the position of each document among this process's documents; 0 for padding.
        mask: ``[groups, docs]`` bool, True where there is a document.
        labels, teacher: ``[groups, docs]``; None if any group has none.
        members: the members of the whole step; None for a model that scores query and document together.
        temperature: divisor of all scores and similarities.
        floor: the label of an irrelevant document.
    """

    comparison: Comparison
    place: Tensor
    mask: Tensor
    labels: Tensor | None
    teacher: Tensor | None
    members: Members | None = None
    temperature: float = 1.0
    floor: float = 0.0

    def scores(self) -> Tensor:
        """Scores of each query's own documents, ``[groups, docs]`` (``[groups, docs, layers]``), divided by the
        temperature; values at padding are meaningless."""
        return self.comparison.own()[self.place] / self.temperature

    def similarity(self, left: Side, right: Side, rows: Tensor | None = None) -> Tensor:
        """Similarities ``[own left, all right]``, divided by the temperature; see `Comparison.between`."""
        return self.comparison.between(left, right, rows) / self.temperature

    def vectors(self, side: Side) -> Tensor:
        """See `Comparison.vectors`."""
        return self.comparison.vectors(side)

    def all_members(self) -> Members:
        """The members of the step.

        Raises:
            InputError: a model that scores query and document together.
        """
        if self.members is None:
            raise InputError(_TOGETHER)
        return self.members

    def scaled(self, temperature: float) -> Step:
        """This step with another temperature."""
        return replace(self, temperature=temperature)

    def truncated(self, width: int) -> Step:
        """This step with vectors of ``width``; see `Comparison.truncated`."""
        return replace(self, comparison=self.comparison.truncated(width))
