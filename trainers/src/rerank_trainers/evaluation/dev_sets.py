"""Several dev sets as one: all are measured, and one metric decides which checkpoint is best.

A metric of a named set is ``NAME/nDCG@10``; of a single set without a name ``nDCG@10``. A reranker with a label, such
as a Matryoshka width, adds it: ``NAME/nDCG@10 (256)``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Protocol, TypeAlias

from rerank_core import InputError, Reranker
from rerank_core.measures import parse_metrics
from rerank_core.records.label_scale import LabelScale
from rerank_core.records.training_row import TrainingRow
from rerank_trainers.evaluation.corpus_set import CORPUS_MEASURES, CorpusSet
from rerank_trainers.evaluation.dev_data import DevData, DevPart
from rerank_trainers.evaluation.dev_set import MEASURES, DevSet
from rerank_trainers.evaluation.pair_set import SPEARMAN, PairSet
from rerank_trainers.evaluation.result import Result

__all__ = ["DevSets", "Labelled", "Measured", "open_set"]

Labelled: TypeAlias = Sequence[tuple[str, Reranker]]
"""Rerankers with labels; an empty label stands for the model as it is served."""

_METRIC = re.compile(r"(?:(?P<set>[^/]+)/)?(?P<measure>.+?)(?P<label> \([^()]*\))?")


class Measured(Protocol):
    """One dev set.

    Attributes:
        rank, world: number of this process, and number of processes that share the work.
    """

    rank: int
    world: int

    @property
    def rows(self) -> Sequence[TrainingRow]: ...
    @property
    def left_out(self) -> int: ...
    def evaluate(self, reranker: Reranker) -> Result: ...


class DevSets:
    """The dev sets of a run.

    Attributes:
        sets: each set by its name; the name is empty for a single set without one.
        metric: the metric that decides, as it is named in results.
    """

    def __init__(self, sets: Mapping[str, Measured], metric: str) -> None:
        self.sets, self.metric = dict(sets), metric

    @classmethod
    def of(
        cls,
        data: Sequence[TrainingRow],
        metric: str = MEASURES[0],
        *,
        scale: LabelScale | None = None,
    ) -> DevSets:
        """The sets of dev data; plain rows are a single set.

        Args:
            metric: the metric that decides; it is measured on its set beside the usual ones.
            scale: maps labels to gains.

        Raises:
            InputError: a set without usable rows, or a metric of no set or of an unknown name.
        """
        parts = DevData.of(data).parts
        name, measure, label = _deciding(metric, parts)
        sets = {
            part.name: open_set(part, _measures(part, measure if part.name == name else None), scale=scale)
            for part in parts
        }
        return cls(sets, _named(name, measure, label))

    def share(self, rank: int, world: int) -> None:
        """Share the work among processes, of which this is number ``rank``; each gets the whole result."""
        for one in self.sets.values():
            one.rank, one.world = rank, world

    @property
    def rows(self) -> list[TrainingRow]:
        """The rows of all sets that are measured."""
        return [row for one in self.sets.values() for row in one.rows]

    def check_search(self, *, encodes: bool) -> None:
        """Refuse a set that searches a corpus for a model that cannot, before it is loaded.

        Args:
            encodes: whether the model encodes documents alone.

        Raises:
            InputError: names the set.
        """
        for name, one in self.sets.items():
            if isinstance(one, CorpusSet) and not encodes:
                raise InputError(
                    f"data.eval.{name} searches a corpus, and the model reads query and document together; rank "
                    "candidates instead: rows with documents (`rerank train mine`), as data.eval: {NAME: FILE}"
                )

    def check_label(self, labels: Sequence[str]) -> None:
        """Refuse a deciding metric of a label, such as a Matryoshka width, at which nothing is measured.

        Args:
            labels: those of the rerankers that are measured beside the model as it is served.

        Raises:
            InputError: names the labels.
        """
        found = _METRIC.fullmatch(self.metric)
        told = None if found is None else found["label"]
        if told is not None and told.strip(" ()") not in labels:
            plain = self.metric.removesuffix(told)
            at = [f"'{plain} ({label})'" for label in labels]
            raise InputError(
                f"train.metric is {self.metric!r}, and the model is not measured at {told.strip(' ()')!r}; set it to "
                f"{' or '.join([repr(plain), *at])}"
                + ("" if at else ". model.matryoshka adds widths at which it is trained and measured")
            )

    @property
    def left_out(self) -> list[str]:
        """What is not measured, one sentence per set."""
        reason = "have no relevant document, or no irrelevant one; they are not measured"
        return [
            f"data.eval{'.' + name if name else ''}: {one.left_out} of {one.left_out + len(one.rows)} rows {reason}"
            for name, one in self.sets.items()
            if one.left_out
        ]

    def evaluate(self, rerankers: Reranker | Labelled) -> Result:
        """The metrics of all sets and rerankers in one result.

        `Result.scored` has the scores of the first reranker.
        """
        labelled = [("", rerankers)] if isinstance(rerankers, Reranker) else rerankers
        values: dict[str, float] = {}
        queries: dict[str, Sequence[float]] = {}
        scored: list[tuple[float, int]] = []
        for number, (label, reranker) in enumerate(labelled):
            for name, one in self.sets.items():
                result = one.evaluate(reranker)
                suffix = f" ({label})" if label else ""
                values |= {_named(name, measure, suffix): value for measure, value in result.values.items()}
                queries |= {_named(name, measure, suffix): value for measure, value in result.queries.items()}
                scored += result.scored if number == 0 else ()
        return Result(values, queries, scored)


def _named(name: str, measure: str, suffix: str = "") -> str:
    return f"{name}/{measure}{suffix}" if name else f"{measure}{suffix}"


def _measures(part: DevPart, measure: str | None) -> tuple[str, ...]:
    usual = CORPUS_MEASURES if part.kind == "corpus" else MEASURES
    return tuple(dict.fromkeys(usual if measure is None else (measure, *usual)))


def open_set(part: DevPart, measures: Sequence[str], *, scale: LabelScale | None) -> Measured:
    """The dev set of a part; pairs have one metric of their own.

    Raises:
        InputError: no usable rows, or an unknown metric.
    """
    try:
        if part.kind == "pairs":
            return PairSet(part.rows)
        if part.corpus is None:
            return DevSet(part.rows, measures, scale=scale)
        return CorpusSet(part.rows, part.corpus, measures, scale=scale)
    except InputError as error:
        raise InputError(f"data.eval.{part.name}: {error}" if part.name else str(error)) from error


def _deciding(metric: str, parts: Sequence[DevPart]) -> tuple[str, str, str]:
    """The set, the measure under its name in results (RR@10 for MRR@10), and the suffix of the label."""
    found = _METRIC.fullmatch(metric)
    name = None if found is None else found["set"]
    by_name = {part.name: part for part in parts}
    known = ", ".join(repr(_named(part.name, SPEARMAN if part.kind == "pairs" else MEASURES[0])) for part in parts)
    if name is None and len(parts) == 1:
        name = parts[0].name
    if found is None or name is None or name not in by_name:
        raise InputError(
            f"train.metric is {metric!r}, which names no metric of a dev set; it decides which checkpoint is kept. Set "
            f"it to one like {known}"
        )
    if by_name[name].kind != "pairs":
        return name, str(parse_metrics([found["measure"]])[0]), found["label"] or ""
    if found["measure"] != SPEARMAN:
        raise InputError(f"train.metric is {metric!r}, and pairs have only {_named(name, SPEARMAN)!r}; set it to that")
    return name, SPEARMAN, found["label"] or ""
