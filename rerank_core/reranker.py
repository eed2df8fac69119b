"""`Reranker`: a loaded model."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

from rerank_core.backends import build_with_files
from rerank_core.backends.source_files import SourceFiles
from rerank_core.errors import InputError, PluginError, RerankError, check_flag, short
from rerank_core.identity.calibration import map_of
from rerank_core.identity.fingerprint import fingerprint_of
from rerank_core.identity.settings import index_settings
from rerank_core.index.encoding import encode_texts
from rerank_core.index.explain import with_matches
from rerank_core.index.index import Index, build_index
from rerank_core.index.protocols import Explains
from rerank_core.options import CallOptions, Options, refuse_load_only
from rerank_core.pipeline.calls import Calls
from rerank_core.pipeline.combining import Part, check_method, combined
from rerank_core.pipeline.display import Displays
from rerank_core.pipeline.outcomes import Outcome, raise_failures, scores_of_pairs
from rerank_core.pipeline.ranking import ranking_of
from rerank_core.pipeline.requests import job_of, jobs_of_pairs
from rerank_core.pipeline.run import run
from rerank_core.pipeline.script_check import ScriptCheck
from rerank_core.planning.parallel import on_devices
from rerank_core.planning.row_plan import Job, Rules
from rerank_core.planning.shared_tokens import SharedTokens
from rerank_core.progress import Progress, bar
from rerank_core.rules import base_rules, call_rules
from rerank_core.scorer import AnyScorer, Configurable, ListRanker, Scorer, TextScorer, is_listwise
from rerank_core.spec import ModelSpec
from rerank_core.spec.hub_or_folder import file_path_of
from rerank_core.spec.reranker_json import calibration_of
from rerank_core.types import Ranking, ScoreSpace, documents_of

__all__ = ["Reranker", "opened"]


class Reranker(Calls):
    """A loaded model. Safe to use from several threads; picklable if `load` made it.

    Close it, or use it as a context manager, to free the weights.
    """

    def __init__(
        self, scorer: AnyScorer, spec: ModelSpec, options: Options, *, files: SourceFiles | None = None
    ) -> None:
        if not isinstance(scorer, (Scorer, TextScorer, ListRanker)):
            raise PluginError(
                f"the scorer of {spec.name!r} is {scorer!r}; it implements neither Scorer, TextScorer nor ListRanker"
            )
        self.spec = spec
        self.options = options
        self._files = files  # None for a scorer of the caller's
        self._token = object()
        self._check_scripts = ScriptCheck(spec)
        self._scorer: AnyScorer | None = scorer
        self._rules, self._profile = base_rules(scorer, spec, options)
        calibration = map_of(options, spec, scorer, lambda: self.fingerprint)
        self._displays = Displays(spec, self._space(scorer), options, self._rules, calibration)

    @classmethod
    def from_scorer(cls, scorer: AnyScorer, spec: ModelSpec, **options: Any) -> Reranker:
        """A reranker around an existing scorer: a model in training, or a fake scorer in a test.

        Closing the reranker does not close the scorer.

        Raises:
            InputError: an option that takes effect only when weights are loaded, such as ``device``.
        """
        refuse_load_only(options)
        return cls(scorer, spec, Options.of(spec, options))

    @property
    def scorer(self) -> AnyScorer:
        """The scorer, for plugin tests and variants by `from_scorer`; RerankError after `close`."""
        return self._open(CallOptions())

    @property
    def fingerprint(self) -> str:
        """64 hexadecimal digits that identify the model's raw scores: a digest of the spec, of the options that change
        scores, and of the weights. Equal in every process and on every machine and device; it does not depend on the
        model's name or folder, the activation or the calibration. The first use reads the files whole.

        Raises:
            InputError: a scorer of `from_scorer`, whose weights are unknown.
            CheckpointError: the model's files changed since it was loaded.
        """
        return fingerprint_of(self.spec, self.options, self._rules, self._profile, self.scorer, self._files)

    def _space(self, scorer: AnyScorer) -> ScoreSpace:
        return "rank" if is_listwise(scorer) else self.spec.raw_space

    # ------------------------------------------------------------------ pairs and indexes
    def score(self, pairs: Iterable[tuple[str, object]], **options: Any) -> list[float]:
        """Raw scores of ``(query, document)`` pairs, as a list in the order of the pairs.

        Args:
            options: ``longdoc``, ``overlap``, ``progress`` and the model's call options.

        Raises:
            InputError: a pair is invalid, or the model is listwise and has no score for a single pair.
        """
        for name in ("top_k", "min_score", "activation", "explain", "combine", "first_stage"):
            if options.get(name) is not None:
                raise InputError(
                    f"score returns every raw score, so {name}={short(options[name])} has no effect; use rerank"
                )
        call = CallOptions.of(self.spec, options)
        scorer = self._open(call)
        if self._space(scorer) == "rank":
            raise InputError(f"{self.spec.name!r} orders lists and has no score for a pair; use rerank")
        jobs, positions = jobs_of_pairs(pairs)
        self._check_scripts(jobs)
        with bar(call.progress) as progress:
            outcomes = run(scorer, jobs, self._rules_for(scorer, call, pairs=True), progress)
        return scores_of_pairs(outcomes, positions)

    def index(
        self,
        documents: Iterable[object],
        directory: str | os.PathLike[str] | None = None,
        *,
        precision: str | None = None,
        progress: bool = False,
    ) -> Index:
        """Encode documents once and rank them for many queries: pass the `Index` to `rerank` as its documents.

        Args:
            directory: a folder for the embeddings, created if missing. Texts already stored there are not encoded
                again, and embeddings stored before an interruption are kept. Opening the folder checks every byte of
                it, so reuse the `Index` object instead of opening the folder for each query.
            precision: ``float32`` (default, exact), ``float16`` (half the bytes) or ``int8`` (a quarter);
                `Index.drift` bounds the change of the similarities.
            progress: show a progress bar on stderr.

        Raises:
            InputError: the model reads query and document together, so documents cannot be encoded alone.
            IndexStoreError: the folder is damaged, was made by another model or with other settings, or cannot be
                written to (a full disk); its earlier contents stay unchanged.
        """
        scorer = self._open(CallOptions())
        if not isinstance(scorer, Scorer):
            raise InputError(f"{self.spec.name!r} scores whole texts and has no embeddings to index; use rerank")
        path = None if directory is None else file_path_of(directory, "directory")
        check_flag("progress", progress)
        with bar(progress) as shown:
            return build_index(
                scorer,
                documents_of(documents),
                self._rules,
                self._identity(),
                directory=path,
                precision=precision,
                identity=index_settings(self.spec, self._rules, self.options),
                progress=shown,
            )

    def encode(self, texts: Iterable[str], *, side: Literal["query", "doc"], **options: Any) -> Any:
        """The vectors of texts, for a vector store or any other use.

        A text that is longer than ``max_length`` is cut there, with a warning in the log, because a text has one
        vector: split long texts first. (`rerank` and `index` read long documents whole, in windows.)

        Args:
            side: ``query`` or ``doc``: which of the model's prompts and markers the texts get.
            options: ``progress``, and the model's call options such as ``instruction``.

        Returns:
            for an embedding model float32 ``[texts, width]``, a numpy array whose products are the scores of `rerank`;
            for late interaction a list with the token vectors ``[tokens, width]`` of each text.

        Raises:
            InputError: a model that reads query and document together, an unknown option, or texts that are no list of
                strings.
        """
        call = CallOptions.of(self.spec, options)
        if unused := sorted(set(options) - {"progress", *call.model}):
            raise InputError(f"encode ranks nothing, so {unused!r} have no effect; leave them out")
        scorer = self._open(call)
        with bar(call.progress, "texts") as shown:
            return encode_texts(scorer, texts, side, self._rules, self.spec.name, shown)

    @property
    def explains(self) -> bool:
        """Whether ``rerank(..., explain=True)`` can return the matched tokens."""
        return isinstance(self._scorer, Explains)

    # ------------------------------------------------------------------ helpers of the calls
    def _identity(self) -> tuple[object, ...]:
        """The settings that an index depends on. An unloaded scorer's index fits only this very reranker."""
        weights = (self._token,) if self._files is None else (self.spec.checkpoint, self.spec.revision, self.options)
        return (self.spec.name, self._rules, *weights)

    def _call_options(self, options: dict[str, Any]) -> CallOptions:
        return CallOptions.of(self.spec, options)

    def _job(self, request: object, call: CallOptions, number: int | None = None) -> Job:
        return job_of(request, self._identity(), number, call.combine)

    def _rank(
        self,
        jobs: Sequence[Job],
        call: CallOptions,
        progress: Progress | None = None,
        *,
        numbered: bool = False,
        retry_alone: bool = False,
    ) -> Iterator[Ranking]:
        scorer = self._open(call)
        if call.explain and not self.explains:
            raise InputError(
                f"{self.spec.name!r} does not compare tokens, so it cannot explain a score; leave explain out"
            )
        display = self._displays.of_call(call)
        self._check_scripts(jobs)  # before the bar, so that the warning has a line of its own
        with bar(call.progress and progress is None) as drawn:
            outcomes = self._outcomes(scorer, jobs, call, progress or drawn, numbered=numbered, retry_alone=retry_alone)
        for job, scored in zip(jobs, raise_failures(outcomes), strict=False):
            final = scored if call.combine is None else combined([Part(self.spec.name, scored)], job, call.combine)
            ranking = ranking_of(self.spec.name, job, final, call, display)
            if call.explain:
                matched = with_matches(scorer, job, ranking.hits, self._rules_for(scorer, call))
                ranking = replace(ranking, hits=matched)
            yield ranking

    def _outcomes(
        self,
        scorer: AnyScorer,
        jobs: Sequence[Job],
        call: CallOptions,
        progress: Progress,
        *,
        numbered: bool,
        retry_alone: bool,
        tokens: SharedTokens | None = None,
    ) -> list[Outcome]:
        """The raw scores of each job, or the error that stopped it; see `run`."""
        if call.combine is not None:
            check_method(call.combine, self.spec.name, scorer, self._space(scorer))
        if any(isinstance(job.documents, Index) for job in jobs) and (
            call.longdoc is not None or call.overlap is not None
        ):
            raise InputError("longdoc and overlap are fixed when an index is made; pass them to load")
        return run(
            scorer,
            jobs,
            self._rules_for(scorer, call),
            progress,
            numbered=numbered,
            retry_alone=retry_alone,
            tokens=tokens,
        )

    def _rules_for(self, scorer: AnyScorer, call: CallOptions, *, pairs: bool = False) -> Rules:
        return call_rules(self._rules, self._profile, scorer, self.spec, call, pairs=pairs)

    def _open(self, call: CallOptions) -> AnyScorer:
        if (scorer := self._scorer) is None:  # read once, as another thread may close the reranker
            raise RerankError(f"this reranker ({self.spec.name!r}) is closed; load it again")
        if not call.model:
            return scorer
        if isinstance(scorer, Configurable):
            return scorer.configured(call.model)
        raise PluginError(
            f"{self.spec.name!r} lists {sorted(call.model)!r} as call options, and its scorer "
            f"{type(scorer).__name__} has no method configured() that takes them"
        )

    # ------------------------------------------------------------------ life cycle
    def close(self) -> None:
        """Free the weights. Closing twice is allowed; ranking afterwards raises RerankError. A call running in another
        thread finishes normally, and a scorer given to `from_scorer` stays open."""
        scorer, self._scorer = self._scorer, None
        close = getattr(scorer, "close", None)
        if self._files is not None and close is not None:
            close()

    def __repr__(self) -> str:
        if self._scorer is None:
            return f"<Reranker {self.spec.name!r} (closed)>"
        return f"<Reranker {self.spec.name!r}{on_devices(self._scorer)}>"

    def __reduce__(self) -> tuple[Any, ...]:
        # Weights are not pickled: the other process loads them from the same checkpoint.
        if self._files is not None:
            return opened, (self.spec, self.options)
        return Reranker, (self._scorer, self.spec, self.options)


def opened(spec: ModelSpec, options: Options) -> Reranker:
    """A reranker with the weights that a spec and options name; see `build`."""
    scorer, files = build_with_files(spec, options)
    if options.checkpoint is not None:  # the folder that replaces the weights says whether these are calibrated
        spec = replace(spec, calibrated=calibration_of(files))
    return Reranker(scorer, spec, options, files=files)
