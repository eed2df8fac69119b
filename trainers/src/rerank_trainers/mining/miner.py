"""Adds hard negatives to rows: retrieves candidates, optionally rescores them, and selects negatives."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from rerank_core.errors import InputError, one_of, short
from rerank_core.pipeline.display import sigmoid
from rerank_core.records.training_row import TrainingRow
from rerank_core.reranker import Reranker
from rerank_trainers.data.hashing import digest
from rerank_trainers.mining.rules import Candidate, MiningRules, choose_negatives
from rerank_trainers.mining.statistics import MiningStatistics
from rerank_trainers.retrieval.corpus import Corpus, text_key
from rerank_trainers.retrieval.retrievers import Retriever, best_first
from rerank_trainers.teachers.scores import ScoreRequest, ScoreResult, row_name, score_requests

__all__ = ["mine", "positives_of"]

# Number of documents that are rescored together.
_PAIRS_PER_PLAN = 1024


@dataclass(frozen=True, slots=True)
class _Retrieved:
    """A row with its candidates, best first.

    Attributes:
        docs, labels: those of the row that stay.
        anchors: scores of the positives, if margins need them.
    """

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
    """Yield the rows in order, with mined negatives after their own documents.

    A negative never equals (`text_key`) a positive that any row has for the same query, nor a document of its row.
    Apart from these positives, the result of a row does not depend on other rows. Rows without a positive stay
    unchanged. Teacher scores are removed from changed rows, because the new documents have none.

    Args:
        corpus: the texts that ``retriever`` scores. For margins without ``rescore`` it must include all positives; add
            the missing ones before (`Corpus.add_unmined`, `positives_of`).
        rescore: a reranker that scores the candidates and positives again; ranks and margins then use its scores.
        activation: ``sigmoid`` or ``none``, for the scores that margins compare. By default sigmoid if ``rescore``
            gives logits, since a relative margin of a logit means nothing (its zero is arbitrary).
        start: skip the rows before this index, which an interrupted run has mined.
        statistics: filled while rows from ``start`` on are yielded.

    Raises:
        InputError: a row has no labels, or settings contradict each other.
        NonFiniteScoreError: ``rescore`` gave NaN or infinity; the message names the rows.
    """
    one_of(activation, (None, "none", "sigmoid"), "activation")
    if activation is not None and rescore is None:
        raise InputError(f"activation={activation!r} applies to the scores of a model; give a model with rescore")
    figures = statistics if statistics is not None else MiningStatistics()
    figures.wanted = rules.negatives
    miner = _Miner(corpus, retriever, rules, _positives_by_query(rows, rules.negative_label), rescore, activation)
    # Blocks start at the same rows in every run, so a resumed run computes the same batches and scores.
    block = max(1, _PAIRS_PER_PLAN // (rules.depth + 1)) if rescore is not None else 1
    for first in range(start - start % block, len(rows), block):
        indices = range(first, min(first + block, len(rows)))
        # Skipped rows are retrieved again for the batches, but not counted.
        counters = [figures if index >= start else MiningStatistics() for index in indices]
        retrieved = [
            miner.retrieve(rows[index], index, counter) for index, counter in zip(indices, counters, strict=True)
        ]
        for index, item, counter in zip(indices, miner.rescore_all(retrieved), counters, strict=True):
            if index >= start:
                yield miner.add_negatives(item, counter)


def positives_of(rows: Iterable[TrainingRow], lowest: float = 0.0) -> Iterator[str]:
    """The documents of all rows with a label above ``lowest``.

    Raises:
        InputError: a row has no labels.
    """
    for index, row in enumerate(rows):
        yield from _positives(row, index, lowest)


def _positives(row: TrainingRow, index: int, lowest: float) -> tuple[str, ...]:
    if row.labels is None:
        raise InputError(
            f"{row_name(row, index)} (query {short(row.query)}) has no labels, so its positives are unknown; "
            "give it labels"
        )
    return tuple(doc for doc, label in zip(row.docs, row.labels, strict=True) if label > lowest)


def _positives_by_query(rows: Iterable[TrainingRow], lowest: float) -> dict[int, set[int]]:
    positives: dict[int, set[int]] = {}
    for index, row in enumerate(rows):
        positives.setdefault(text_key(row.query), set()).update(map(text_key, _positives(row, index, lowest)))
    return positives


@dataclass(frozen=True)
class _Miner:
    """The steps of mining a row: retrieve candidates, rescore them, add negatives.

    Attributes:
        positive_keys: keys of the positives of all rows, by the key of their query.
    """

    corpus: Corpus
    retriever: Retriever
    rules: MiningRules
    positive_keys: dict[int, set[int]]
    rescore: Reranker | None
    activation: str | None

    def retrieve(self, row: TrainingRow, index: int, figures: MiningStatistics) -> _Retrieved:
        """The best ``depth`` texts of the corpus that are neither positives of the query nor in the row."""
        assert row.labels is not None
        positives, name = _positives(row, index, self.rules.negative_label), row_name(row, index)
        staying = [self.rules.keep_own_negatives or label > self.rules.negative_label for label in row.labels]
        docs = tuple(doc for doc, stay in zip(row.docs, staying, strict=True) if stay)
        labels = tuple(label for label, stay in zip(row.labels, staying, strict=True) if stay)
        if not positives:
            return _Retrieved(row, name, (), docs, labels)
        relevant, own_keys = self.positive_keys[text_key(row.query)], {text_key(doc) for doc in docs}
        scores = self.retriever.scores(row.query, row.instruction)
        candidates: list[Candidate] = []
        for position in best_first(scores[: self.corpus.minable], self.retriever.floor):
            if len(candidates) == self.rules.depth:
                break
            key = self.corpus.key(position)
            if key in relevant:
                figures.dropped["positive of the query"] += 1
            elif key in own_keys:
                figures.dropped["own document"] += 1
            else:
                candidates.append(Candidate(position, float(scores[position])))
        figures.candidates += len(candidates)
        anchors: list[float] = []
        if self.rescore is None and self.rules.uses_margins:
            positions = [self.corpus.position(doc) for doc in positives]
            if None in positions:
                raise InputError(
                    f"a positive of {name} is not in the corpus, so it has no score for margins to refer to; "
                    "add positives to the corpus before it is indexed (Corpus.add_unmined)"
                )
            anchors = [float(scores[position]) for position in positions if position is not None]
        return _Retrieved(row, name, positives, docs, labels, candidates, anchors)

    def rescore_all(self, rows: list[_Retrieved]) -> list[_Retrieved]:
        """The rows with candidates and anchors scored by the model, and candidates ordered by these scores."""
        if self.rescore is None:
            return rows
        indices = [index for index, item in enumerate(rows) if item.positives and item.candidates]
        requests = [
            ScoreRequest(
                item.row.query,
                [*self.corpus[[candidate.position for candidate in item.candidates]], *item.positives],
                item.row.instruction,
                item.name,
            )
            for item in (rows[index] for index in indices)
        ]
        result = list(rows)
        for index, scored in zip(indices, score_requests(requests, self.rescore), strict=True):
            item = rows[index]
            values = _margin_scores(scored, self.activation, self.rules, self.rescore.spec.name)
            count = len(item.candidates)
            # Ordered by raw scores, because the sigmoid of very high scores is 1 for all of them.
            order = sorted(range(count), key=lambda doc: (-scored.scores[doc], doc))
            candidates = [Candidate(item.candidates[doc].position, values[doc]) for doc in order]
            result[index] = replace(item, candidates=candidates, anchors=values[count:])
        return result

    def add_negatives(self, item: _Retrieved, figures: MiningStatistics) -> TrainingRow:
        """The row with its negatives."""
        figures.rows += 1
        if not item.positives:
            figures.without_positive += 1
            return item.row
        key = f"{digest(item.row.query, *item.positives):x}"
        chosen, dropped = choose_negatives(item.candidates, item.anchors, self.rules, key)
        figures.dropped.update(dropped)
        figures.negatives += len(chosen)
        figures.mined_per_row[len(chosen)] += 1
        if self.rules.fill == "random" and len(chosen) < self.rules.negatives:
            extra = self.random_texts(item, key, self.rules.negatives - len(chosen))
            figures.filled += len(extra)
            chosen = chosen + extra
        figures.own_negatives_left_out += len(item.row.docs) - len(item.docs)
        negatives = tuple(self.corpus[chosen])
        prompts = None
        if item.row.prompts is not None:
            prompts = _kept_prompts(item, self.rules) + (_common_prompt(item),) * len(negatives)
        changed = bool(negatives) or len(item.docs) < len(item.row.docs)
        figures.scores_left_out += changed and item.row.scores is not None
        return replace(
            item.row,
            docs=item.docs + negatives,
            labels=item.labels + (self.rules.negative_label,) * len(negatives),
            scores=None if changed else item.row.scores,
            prompts=prompts,
        )

    def random_texts(self, item: _Retrieved, key: str, missing: int) -> list[int]:
        """Positions of random texts that are neither in the row nor candidates, which rules may have dropped."""
        candidates = {candidate.position for candidate in item.candidates}
        excluded = self.positive_keys[text_key(item.row.query)] | {text_key(doc) for doc in item.docs}
        enough = min(self.corpus.minable, missing + len(candidates) + len(excluded))
        drawn = random.Random(f"{self.rules.seed}:fill:{key}").sample(range(self.corpus.minable), enough)
        return [pos for pos in drawn if pos not in candidates and self.corpus.key(pos) not in excluded][:missing]


def _kept_prompts(item: _Retrieved, rules: MiningRules) -> tuple[str, ...]:
    """The prompts of the row's documents that stay."""
    labels, prompts = item.row.labels or (), item.row.prompts or ()
    return tuple(
        prompt
        for prompt, label in zip(prompts, labels, strict=True)
        if rules.keep_own_negatives or label > rules.negative_label
    )


def _common_prompt(item: _Retrieved) -> str:
    """The prompt of every document of a row, which its mined negatives get too.

    Raises:
        InputError: the documents have different prompts.
    """
    prompts = sorted(set(item.row.prompts or ()))
    if len(prompts) > 1:
        raise InputError(
            f"{item.name} has documents with different prompts, {short(prompts)}, so the prompt of mined negatives is "
            "unknown; give all of its documents one prompt"
        )
    return prompts[0]


def _margin_scores(result: ScoreResult, activation: str | None, rules: MiningRules, model: str) -> list[float]:
    """The scores that margins compare."""
    if result.space == "rank" and rules.uses_margins:
        raise InputError(
            f"{model!r} is a listwise model, which gives an order and no scores; margins need scores, so leave them out"
        )
    if activation == "sigmoid" and result.space != "logit":
        raise InputError(f"activation='sigmoid' needs logits, and {model!r} gives {result.space!r} scores; use 'none'")
    if result.space == "logit" and activation != "none":
        return [sigmoid(score) for score in result.scores]
    return list(result.scores)
