"""`Reranker`: a loaded model."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any

from rerank_core.backends import build
from rerank_core.errors import (
    InputError,
    NonFiniteScoreError,
    PluginError,
    RerankError,
    one_of,
    short,
)
from rerank_core.index.explain import with_matches
from rerank_core.index.index import Index, build_index
from rerank_core.index.protocols import Explains
from rerank_core.options import CallOptions, Options, check_flag
from rerank_core.pipeline import streaming
from rerank_core.pipeline.outcomes import raise_failures
from rerank_core.pipeline.ranking import activation_and_space, ranking_of
from rerank_core.pipeline.requests import job_of, jobs_of_pairs, requests_in
from rerank_core.pipeline.run import run
from rerank_core.planning.row_plan import Job, Rules
from rerank_core.progress import Progress, bar
from rerank_core.rules import base_rules, call_rules, identity_of
from rerank_core.scorer import AnyScorer, Configurable, ListRanker, Scorer, TextScorer, is_listwise
from rerank_core.spec import ModelSpec
from rerank_core.spec.hub_or_folder import file_path_of
from rerank_core.types import Ranking, ScoreSpace, documents_of

__all__ = ["Reranker"]


class Reranker:
    """A loaded model. Safe to use from several threads; picklable where `load` made it.

    Close it, or use it as a context manager, to let go of the weights.
    """

    def __init__(self, scorer: AnyScorer, spec: ModelSpec, options: Options, *, loaded: bool = False) -> None:
        if not isinstance(scorer, (Scorer, TextScorer, ListRanker)):
            raise PluginError(
                f"the scorer of {spec.name!r} is {scorer!r}; it implements neither Scorer, TextScorer nor ListRanker"
            )
        self.spec = spec
        self.options = options
        self._loaded = loaded
        self._mark = object()
        self._scorer: AnyScorer | None = scorer
        self._rules, self._profile = base_rules(scorer, spec, options)
        activation_and_space(spec, self._space(scorer), options.activation)

    @classmethod
    def from_scorer(cls, scorer: AnyScorer, spec: ModelSpec, **options: Any) -> Reranker:
        """A reranker around a scorer that is already there: a live model in training, a fake in a test.

        Closing it leaves the scorer to whoever made it.

        Raises:
            InputError: an option that only loading could follow, such as ``device``.
        """
        late = sorted({"checkpoint", "device", "dtype", "offline", "parse_special_tokens", "revision"} & set(options))
        if late:
            raise InputError(f"{late!r} are settled when weights are loaded, and this scorer is already there")
        return cls(scorer, spec, Options.of(spec, options))

    @property
    def scorer(self) -> AnyScorer:
        """What scores, for plugin tests and variants by `from_scorer`; a RerankError after `close`."""
        return self._open(CallOptions())

    def _space(self, scorer: AnyScorer) -> ScoreSpace:
        return "rank" if is_listwise(scorer) else self.spec.raw_space

    # ------------------------------------------------------------------ one query, many queries, pairs
    def rerank(self, query: str, documents: Iterable[object], **options: Any) -> Ranking:
        """Rank documents for a query.

        Args:
            documents: strings, mappings with ``text``, `Document`, or an `Index`; never changed, none dropped.
            options: see `CallOptions`: ``top_k``, ``min_score``, ``longdoc``, ``overlap``, ``activation``,
                ``explain``, ``progress``, and the model's call options.

        Raises:
            InputError: a query, document or option that cannot be used.
            NonFiniteScoreError: the model gave NaN or infinity.
        """
        call = CallOptions.of(self.spec, options)
        return next(self._rank([job_of((query, documents), self._identity())], call))

    def rerank_many(self, requests: Iterable[tuple[str, Iterable[object]]], **options: Any) -> list[Ranking]:
        """Rank several ``(query, documents)`` in one plan; one ranking each, in their order."""
        call = CallOptions.of(self.spec, options)
        jobs = [job_of(request, self._identity(), number) for number, request in enumerate(requests_in(requests))]
        return list(self._rank(jobs, call, numbered=True))

    def rerank_stream(self, requests: Iterable[tuple[str, Iterable[object]]], **options: Any) -> Iterator[Ranking]:
        """Rank an endless or huge iterable in bounded memory: rankings come in order, about a thousand documents
        at a time. Where a request fails, or the iterable raises, the rankings of all requests before it come first."""
        call = CallOptions.of(self.spec, options)
        return streaming.stream(
            requests_in(requests),
            lambda request, number: job_of(request, self._identity(), number),
            lambda jobs: self._rank(jobs, call, numbered=True, retry_alone=True),
        )

    async def arerank(self, query: str, documents: Iterable[object], **options: Any) -> Ranking:
        """`rerank` in a worker thread; cancelling the task stops it between two batches."""
        # asyncio doubles the time that importing this package takes, and whoever awaits has it already.
        import asyncio

        call = CallOptions.of(self.spec, options)
        job = job_of((query, documents), self._identity())
        stop = threading.Event()

        def watch(done: int, total: int) -> None:
            if stop.is_set():
                raise _CancelledError

        try:
            return await asyncio.to_thread(lambda: next(self._rank([job], call, watch)))
        except asyncio.CancelledError:
            stop.set()
            raise

    def score(self, pairs: Iterable[tuple[str, object]], **options: Any) -> list[float]:
        """Raw scores of ``(query, document)`` pairs, as a list, in their order.

        Args:
            options: ``longdoc``, ``overlap``, ``progress`` and the model's call options.

        Raises:
            InputError: a pair that is none, or a listwise model, which has no score for a single pair.
        """
        for name in ("top_k", "min_score", "activation", "explain"):
            if options.get(name) is not None:
                raise InputError(
                    f"score gives every raw score, so {name}={short(options[name])} means nothing; use rerank"
                )
        call = CallOptions.of(self.spec, options)
        scorer = self._open(call)
        if self._space(scorer) == "rank":
            raise InputError(f"{self.spec.name!r} orders lists and has no score for a pair; use rerank")
        jobs, places = jobs_of_pairs(pairs)
        try:
            with bar(call.progress) as progress:
                outcomes = run(scorer, jobs, self._rules_for(scorer, call, pairs=True), progress)
            results = list(raise_failures(outcomes))
        except NonFiniteScoreError as error:
            bad = [places[job][doc] for job, doc in error.documents]
            message = f"the model gave NaN or infinity for the pairs {short(bad)}"
            raise NonFiniteScoreError(message, [(place, 0) for place in bad]) from error
        scores = [0.0] * sum(map(len, places))
        for wanted, result in zip(places, results, strict=True):
            for place, score in zip(wanted, result.scores, strict=True):
                scores[place] = score
        return scores

    def index(
        self,
        documents: Iterable[object],
        directory: str | os.PathLike[str] | None = None,
        *,
        precision: str | None = None,
        progress: bool = False,
    ) -> Index:
        """Encode documents once, to be ranked for many queries: give the `Index` to `rerank` as documents.

        Args:
            directory: a folder that keeps the embeddings, made where it is not there. Texts that it holds are not
                encoded again, by whatever process; what an interrupted call had put away stays. Every byte of it is
                checked when it is opened, so keep the `Index` rather than opening it for each query.
            precision: ``float32`` (default, exact), ``float16`` (half the bytes) or ``int8`` (a quarter);
                `Index.drift` says how far that moves similarities.
            progress: a progress bar on stderr.

        Raises:
            InputError: a model that reads query and document together.
            IndexStoreError: a folder that is damaged, was made by another model or with other settings, or cannot be
                written to (a full disk); what it held before stays as it was.
        """
        scorer = self._open(CallOptions())
        if not isinstance(scorer, Scorer):
            raise InputError(f"{self.spec.name!r} takes texts, so it has nothing to index")
        one_of(precision, (None, "float32", "float16", "int8"), "precision")
        place = None if directory is None else file_path_of(directory, "directory")
        check_flag("progress", progress)
        with bar(progress) as shown:
            return build_index(
                scorer,
                documents_of(documents),
                self._rules,
                self._identity(),
                directory=place,
                precision=precision,
                identity=identity_of(self.spec, self._rules, self.options),
                progress=shown,
            )

    @property
    def explains(self) -> bool:
        """Whether ``rerank(..., explain=True)`` can say which tokens matched."""
        return isinstance(self._scorer, Explains)

    # ------------------------------------------------------------------ the way down
    def _identity(self) -> tuple[object, ...]:
        """What an index depends on. A scorer that `load` did not make is known only by itself."""
        weights = (self.spec.checkpoint, self.spec.revision, self.options) if self._loaded else (self._mark,)
        return (self.spec.name, self._rules, *weights)

    def _rank(
        self,
        jobs: Sequence[Job],
        call: CallOptions,
        watch: Progress | None = None,
        *,
        numbered: bool = False,
        retry_alone: bool = False,
    ) -> Iterator[Ranking]:
        """Rankings in the order of the jobs, as far as they came, before an error; see `pipeline.run`."""
        scorer = self._open(call)
        if call.explain and not self.explains:
            raise InputError(
                f"{self.spec.name!r} does not compare tokens, so it cannot say which matched; leave explain out"
            )
        activation = call.activation or self.options.activation
        space = self._space(scorer)
        activation_and_space(self.spec, space, activation)
        if any(isinstance(job.documents, Index) for job in jobs) and (
            call.longdoc is not None or call.overlap is not None
        ):
            raise InputError("longdoc and overlap are settled when an index is made; pass them to load")
        rules = self._rules_for(scorer, call)
        with bar(call.progress and watch is None) as progress:
            outcomes = run(scorer, jobs, rules, watch or progress, numbered=numbered, retry_alone=retry_alone)
        for job, scored in zip(jobs, raise_failures(outcomes), strict=False):
            ranking = ranking_of(self.spec, job, scored, call, activation, space)
            yield replace(ranking, hits=with_matches(scorer, job, ranking.hits, rules)) if call.explain else ranking

    def _rules_for(self, scorer: AnyScorer, call: CallOptions, *, pairs: bool = False) -> Rules:
        return call_rules(self._rules, self._profile, scorer, self.spec, call, pairs=pairs)

    def _open(self, call: CallOptions) -> AnyScorer:
        if self._scorer is None:
            raise RerankError(f"this reranker ({self.spec.name!r}) is closed; load it again")
        if not call.model:
            return self._scorer
        if not isinstance(self._scorer, Configurable):
            raise PluginError(
                f"{self.spec.name!r} lists {sorted(call.model)!r} as call options, and its scorer "
                f"{type(self._scorer).__name__} has no configured() to take them"
            )
        return self._scorer.configured(call.model)

    # ------------------------------------------------------------------ life cycle
    def close(self) -> None:
        """Let go of the weights. Closing twice is fine; ranking afterwards is a RerankError. A call that is under
        way in another thread ends as if nothing had happened, and a scorer given to `from_scorer` stays open."""
        scorer, self._scorer = self._scorer, None
        close = getattr(scorer, "close", None)
        if self._loaded and close is not None:
            close()

    def __enter__(self) -> Reranker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Reranker {self.spec.name!r}{' (closed)' if self._scorer is None else ''}>"

    def __reduce__(self) -> tuple[Any, ...]:
        # Weights do not travel: a spawned process loads them itself, from the same checkpoint.
        if self._loaded:
            return _reload, (self.spec, self.options)
        return Reranker, (self._scorer, self.spec, self.options)


def _reload(spec: ModelSpec, options: Options) -> Reranker:
    return Reranker(build(spec, options), spec, options, loaded=True)


class _CancelledError(RerankError):
    """Ends the worker of a cancelled `Reranker.arerank`; nobody is left to see it."""
