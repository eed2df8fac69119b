"""From rows with positives to rows with hard negatives: find candidates, score them again if asked, choose."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from rerank_core.errors import InputError, one_of, short
from rerank_core.pipeline.ranking import sigmoid
from rerank_core.records.training_row import TrainingRow
from rerank_core.reranker import Reranker
from rerank_trainers.data.hashing import digest
from rerank_trainers.mining.rules import Candidate, MiningRules, choose_negatives
from rerank_trainers.mining.statistics import MiningStatistics
from rerank_trainers.retrieval.corpus import Corpus, text_key
from rerank_trainers.retrieval.retrievers import Retriever, best_first
from rerank_trainers.teachers.scores import ScoreRequest, ScoreResult, row_name, score_requests

__all__ = ["mine", "positives_of"]

# Documents that are scored again together.
_PAIRS_PER_PLAN = 1024


@dataclass(frozen=True, slots=True)
class _Found:
    """A row and what a retriever found for it, best first."""

    row: TrainingRow
    name: str
    positives: tuple[str, ...]
    docs: tuple[str, ...]
    labels: tuple[float, ...]
    candidates: Sequence[Candidate] = ()
    anchors: Sequence[float] = ()


def mine(
    rows: Sequence[TrainingRow],
    corpus: Corpus,
    retriever: Retriever,
    rules: MiningRules,
    *,
    rescore: Reranker | None = None,
    activation: str | None = None,
    start: int = 0,
    statistics: MiningStatistics | None = None,
) -> Iterator[TrainingRow]:
    """Rows with mined negatives after their own documents, in order; a row's result depends on no other's but for
    the positives of its query.

    No negative equals (`text_key`) a positive that any row has for the same query, nor a document of its own row. Rows
    without a positive pass through unchanged. A teacher's scores are left out, since they do not cover the negatives.

    Args:
        corpus: what ``retriever`` scores. For margins without ``rescore``, the positives that it lacks must be made
            known to it before (`Corpus.add_unmined`, `positives_of`).
        rescore: a reranker that scores the candidates and the row's positives again; ranks and margins are then its.
        activation: ``sigmoid`` or ``none``, of the scores that margins compare. By default sigmoid where ``rescore``
            gives logits, whose zero is arbitrary, so that a share of one says nothing.
        start: leave out the rows before this one, which an interrupted run has mined.
        statistics: is filled while the rows come, ``start`` and later.

    Raises:
        InputError: a row without labels, or settings that do not go together.
        NonFiniteScoreError: ``rescore`` gave NaN or infinity; the message names the rows.
    """
    one_of(activation, (None, "none", "sigmoid"), "activation")
    if activation is not None and rescore is None:
        raise InputError(f"activation={activation!r} is for the scores of a model; give one to rescore with")
    figures = statistics if statistics is not None else MiningStatistics()
    figures.wanted = rules.negatives
    run = _Run(corpus, retriever, rules, _positives_by_query(rows, rules.negative_label), rescore, activation)
    # Rows are scored in the same company wherever a run starts, so that resuming gives the same scores.
    block = max(1, _PAIRS_PER_PLAN // (rules.depth + 1)) if rescore is not None else 1
    for first in range(start - start % block, len(rows), block):
        places = range(first, min(first + block, len(rows)))
        counted = [figures if place >= start else MiningStatistics() for place in places]
        found = [run.found(rows[place], place, own) for place, own in zip(places, counted, strict=True)]
        for place, one, own in zip(places, run.rescored(found), counted, strict=True):
            if place >= start:
                yield run.mined(one, own)


def positives_of(rows: Iterable[TrainingRow], lowest: float = 0.0) -> Iterator[str]:
    """The documents of all rows with a label above the lowest.

    Raises:
        InputError: a row without labels.
    """
    for place, row in enumerate(rows):
        yield from _positives(row, place, lowest)


def _positives(row: TrainingRow, place: int, lowest: float) -> tuple[str, ...]:
    if row.labels is None:
        raise InputError(
            f"{row_name(row, place)} (query {short(row.query)}) has no labels, and a negative is what is not positive; "
            "give it labels"
        )
    return tuple(doc for doc, label in zip(row.docs, row.labels, strict=True) if label > lowest)


def _positives_by_query(rows: Iterable[TrainingRow], lowest: float) -> dict[int, set[int]]:
    known: dict[int, set[int]] = {}
    for place, row in enumerate(rows):
        known.setdefault(text_key(row.query), set()).update(map(text_key, _positives(row, place, lowest)))
    return known


@dataclass(frozen=True)
class _Run:
    """What the steps of mining a row share.

    Attributes:
        known: keys of the positives of all rows, by the key of their query.
    """

    corpus: Corpus
    retriever: Retriever
    rules: MiningRules
    known: dict[int, set[int]]
    rescore: Reranker | None
    activation: str | None

    def found(self, row: TrainingRow, number: int, figures: MiningStatistics) -> _Found:
        """The first ``depth`` texts that are neither positives of the query nor in the row."""
        assert row.labels is not None
        positives, name = _positives(row, number, self.rules.negative_label), row_name(row, number)
        stays = [self.rules.keep_own_negatives or label > self.rules.negative_label for label in row.labels]
        docs = tuple(doc for doc, stay in zip(row.docs, stays, strict=True) if stay)
        labels = tuple(label for label, stay in zip(row.labels, stays, strict=True) if stay)
        if not positives:
            return _Found(row, name, (), docs, labels)
        relevant, own = self.known[text_key(row.query)], {text_key(doc) for doc in docs}
        scores = self.retriever.scores(row.query, row.instruction)
        candidates: list[Candidate] = []
        for place in best_first(scores[: self.corpus.minable], self.retriever.floor):
            if len(candidates) == self.rules.depth:
                break
            key = self.corpus.key(place)
            if key in relevant:
                figures.dropped["positive of the query"] += 1
            elif key in own:
                figures.dropped["own document"] += 1
            else:
                candidates.append(Candidate(place, float(scores[place])))
        figures.candidates += len(candidates)
        anchors: list[float] = []
        if self.rescore is None and self.rules.uses_margins:
            stand = [self.corpus.position(doc) for doc in positives]
            if None in stand:
                raise InputError(
                    f"a positive of {name} is not in the corpus, so it has no score to measure margins from; "
                    "make positives known to the corpus before it is indexed (Corpus.add_unmined)"
                )
            anchors = [float(scores[place]) for place in stand if place is not None]
        return _Found(row, name, positives, docs, labels, candidates, anchors)

    def rescored(self, found: list[_Found]) -> list[_Found]:
        """Candidates in the order of the model's scores, and anchors as it scores the positives."""
        if self.rescore is None:
            return found
        asked = [place for place, one in enumerate(found) if one.positives and one.candidates]
        requests = [
            ScoreRequest(
                one.row.query,
                [*self.corpus[[candidate.position for candidate in one.candidates]], *one.positives],
                one.row.instruction,
                one.name,
            )
            for one in (found[place] for place in asked)
        ]
        result = list(found)
        for place, answer in zip(asked, score_requests(requests, self.rescore), strict=True):
            one = found[place]
            shown = _shown(answer, self.activation, self.rules, self.rescore.spec.name)
            count = len(one.candidates)
            # By raw scores: a sigmoid makes equals of very high ones.
            order = sorted(range(count), key=lambda doc: (-answer.scores[doc], doc))
            candidates = [Candidate(one.candidates[doc].position, shown[doc]) for doc in order]
            result[place] = replace(one, candidates=candidates, anchors=shown[count:])
        return result

    def mined(self, one: _Found, figures: MiningStatistics) -> TrainingRow:
        """The row with its negatives."""
        figures.rows += 1
        if not one.positives:
            figures.without_positive += 1
            return one.row
        key = f"{digest(one.row.query, *one.positives):x}"
        chosen, dropped = choose_negatives(one.candidates, one.anchors, self.rules, key)
        figures.dropped.update(dropped)
        figures.negatives += len(chosen)
        figures.mined_per_row[len(chosen)] += 1
        if self.rules.fill == "random" and len(chosen) < self.rules.negatives:
            extra = self.random_texts(one, key, self.rules.negatives - len(chosen))
            figures.filled += len(extra)
            chosen = chosen + extra
        figures.own_negatives_left_out += len(one.row.docs) - len(one.docs)
        negatives = tuple(self.corpus[chosen])
        changed = bool(negatives) or len(one.docs) < len(one.row.docs)
        figures.scores_left_out += changed and one.row.scores is not None
        return replace(
            one.row,
            docs=one.docs + negatives,
            labels=one.labels + (self.rules.negative_label,) * len(negatives),
            scores=None if changed else one.row.scores,
        )

    def random_texts(self, one: _Found, key: str, missing: int) -> list[int]:
        """Places of texts that are neither candidates (a rule may have dropped them for a reason) nor in the row."""
        taken = {candidate.position for candidate in one.candidates}
        banned = self.known[text_key(one.row.query)] | {text_key(doc) for doc in one.docs}
        enough = min(self.corpus.minable, missing + len(taken) + len(banned))
        drawn = random.Random(f"{self.rules.seed}:fill:{key}").sample(range(self.corpus.minable), enough)
        return [place for place in drawn if place not in taken and self.corpus.key(place) not in banned][:missing]


def _shown(answer: ScoreResult, activation: str | None, rules: MiningRules, model: str) -> list[float]:
    """The scores that margins compare."""
    if answer.space == "rank" and rules.uses_margins:
        raise InputError(f"{model!r} orders lists and gives no scores, so margins mean nothing; leave them out")
    if activation == "sigmoid" and answer.space != "logit":
        raise InputError(f"activation='sigmoid' needs logits, and {model!r} gives {answer.space!r} scores; use 'none'")
    if answer.space == "logit" and activation != "none":
        return [sigmoid(score) for score in answer.scores]
    return list(answer.scores)
