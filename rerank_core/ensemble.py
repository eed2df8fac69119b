"""`Ensemble`: several models rank the same documents, and their scores are combined."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from typing import Any, NoReturn

from rerank_core.combine import Combine, finite_number
from rerank_core.errors import InputError, RerankError, short, with_context
from rerank_core.identity.fingerprint import digest_of
from rerank_core.identity.settings import plain
from rerank_core.loading import load
from rerank_core.options import CallOptions, refuse_unknown
from rerank_core.pipeline.calls import Calls
from rerank_core.pipeline.combining import Part, check_method, combined, distinct_names
from rerank_core.pipeline.display import COMBINED
from rerank_core.pipeline.outcomes import Outcome
from rerank_core.pipeline.ranking import ranking_of
from rerank_core.pipeline.requests import job_of
from rerank_core.planning.row_plan import Job
from rerank_core.planning.shared_tokens import SharedTokens
from rerank_core.progress import Progress, bar
from rerank_core.reranker import Reranker
from rerank_core.scorer import AnyScorer
from rerank_core.types import Ranking, in_order

__all__ = ["Ensemble", "Member"]


@dataclass(frozen=True, eq=False)
class Member:
    """A model of an ensemble.

    Attributes:
        name: its key in ``Hit.scores``: the model's name, or with ``#2`` behind it where the name is taken.
        opened: whether the ensemble loaded it, and closes it.
    """

    name: str
    reranker: Reranker
    weight: float
    opened: bool


class Ensemble(Calls):
    """Several models over the same documents: a reranker whose scores are combined by late fusion.

    Documents are read once, and each text is tokenized once for all members with the same tokenizer. The calls are
    those of `Reranker`. ``Hit.scores`` has ``combined``, each model's raw score by its name, and ``first_stage``;
    ``Hit.passages`` are the first member's. The option ``combine=`` of a call takes the place of ``by`` and adds the
    first stage as one more ranking; ``first_stage=[...]`` without it is added by ``by``. Call options of a model go to
    the members that have them.

    Args:
        members: names, folders or `Reranker` objects, each alone (weight 1) or as ``(model, weight)`` or ``(model,
            weight, options)``, with options of `load` for this model.
        by: how their scores are combined; by default ``Combine.rrf()``.
        name: the ranking's ``model``; by default the names of the members.
        options: options of `load` for every member that is given by name.

    Raises:
        InputError: a member, weight or option is invalid, or the scores of a member cannot be combined in this way.
        RerankError: a member cannot be loaded; the message names it. The others are closed again.
    """

    def __init__(
        self, members: Iterable[Any], by: Combine | None = None, *, name: str | None = None, **options: Any
    ) -> None:
        self.by = Combine.rrf() if by is None else by
        if not isinstance(self.by, Combine):
            raise InputError(f"by is {short(by)}; it must be Combine.rrf() or Combine.weighted()")
        if name is not None and (not isinstance(name, str) or not name):
            raise InputError(f"name is {short(name)}; it must be a text that is not empty")
        parts = [_parts(member, number) for number, member in enumerate(in_order(members, "members", _WANTED))]
        if not parts:
            raise InputError("an ensemble needs a member, such as ('mini', 1)")
        if finite_number(sum(weight for _, weight, _ in parts)) is None:
            raise InputError("the members' weights are too large for their sum; only their ratio matters")
        for where, own in [("", options), *((f" of member {number}", own) for number, (*_, own) in enumerate(parts))]:
            if shown := sorted({"activation", "calibration"} & set(own)):
                raise InputError(f"{shown!r}{where} has no effect: an ensemble combines raw scores; leave it out")
        if options and all(isinstance(source, Reranker) for source, _, _ in parts):
            raise InputError(f"every member is loaded already, so {sorted(options)!r} have no effect; leave them out")
        rerankers: list[Reranker] = []
        with ExitStack() as opened:
            for number, (source, _, own) in enumerate(parts):
                with _named(f"member {number} ({short(source)})"):
                    if isinstance(source, Reranker):
                        rerankers.append(source)
                    else:
                        rerankers.append(opened.enter_context(load(source, **{**options, **own})))
                    _check(self.by, rerankers[-1], rerankers[-1].scorer)
            opened.pop_all()
        names = distinct_names([reranker.spec.name for reranker in rerankers])
        self.members = tuple(
            Member(key, reranker, weight, reranker is not source)
            for key, reranker, (source, weight, _) in zip(names, rerankers, parts, strict=True)
        )
        self.name = name or "+".join(names)
        self._closed = False

    @property
    def fingerprint(self) -> str:
        """64 hexadecimal digits that identify the combined scores: of the members' fingerprints and weights, and of
        ``by``; see `Reranker.fingerprint`."""
        members = [[member.reranker.fingerprint, member.weight] for member in self.members]
        return digest_of({"members": members, "by": plain(self.by)})

    def score(self, pairs: Iterable[object], **options: Any) -> NoReturn:
        """Refused: a combined score depends on the other documents of the list."""
        raise InputError(
            "a combined score depends on all documents of a query, so a pair has none; use rerank, or score of one of "
            "the members"
        )

    # ------------------------------------------------------------------ what `Calls` needs
    def _call_options(self, options: dict[str, Any]) -> CallOptions:
        common = {item.name for item in fields(CallOptions)} - {"model"}
        refuse_unknown(options, sorted(common.union(*map(_call_names, self.members))), self.name)
        call = CallOptions(
            **{option: value for option, value in options.items() if option in common},
            model={option: value for option, value in options.items() if option not in common},
        )
        if call.activation not in (None, "none") or call.explain:
            option = f"explain={call.explain!r}" if call.explain else f"activation={call.activation!r}"
            raise InputError(
                f"{option} is of one model's scores and has no effect on combined ones; leave it out, or rank with "
                "that model alone"
            )
        for member in self.members:
            _call_of(member, call)
        return call

    def _job(self, request: object, call: CallOptions, number: int | None = None) -> Job:
        return job_of(request, None, number, call.combine, self.by)

    def _rank(
        self,
        jobs: Sequence[Job],
        call: CallOptions,
        progress: Progress | None = None,
        *,
        numbered: bool = False,
        retry_alone: bool = False,
    ) -> Iterator[Ranking]:
        if self._closed:
            raise RerankError(f"this ensemble ({self.name!r}) is closed; make it again")
        combine = call.combine or self.by
        calls = [_call_of(member, call) for member in self.members]
        scorers = [member.reranker._open(own) for member, own in zip(self.members, calls, strict=True)]
        for member, scorer in zip(self.members, scorers, strict=True):
            _check(combine, member.reranker, scorer)
            member.reranker._check_scripts(jobs)
        tokens = SharedTokens(scorers)
        results: list[list[Outcome]] = []
        with bar(call.progress and progress is None) as drawn:
            shown = _OfAllMembers(progress or drawn, len(self.members))
            for member, scorer, own in zip(self.members, scorers, calls, strict=True):
                with _named(f"member {member.name!r}"):
                    outcomes = member.reranker._outcomes(
                        scorer, jobs, own, shown, numbered=numbered, retry_alone=retry_alone, tokens=tokens
                    )
                results.append(outcomes)
                shown.next_member()
        for position, job in enumerate(jobs):
            parts = []
            for member, outcomes in zip(self.members, results, strict=True):
                outcome = outcomes[position]
                if isinstance(outcome, Exception):
                    raise with_context(outcome, f"member {member.name!r}")
                parts.append(Part(member.name, outcome, member.weight))
            yield ranking_of(self.name, job, combined(parts, job, combine), call, COMBINED)

    # ------------------------------------------------------------------ life cycle
    def close(self) -> None:
        """Close the members that the ensemble loaded. Closing twice is allowed; ranking afterwards raises RerankError.
        Rerankers that were given to it stay open."""
        self._closed = True
        for member in self.members:
            if member.opened:
                member.reranker.close()

    def __repr__(self) -> str:
        return f"<Ensemble {self.name!r}{' (closed)' if self._closed else ''}>"


@contextmanager
def _named(where: str) -> Iterator[None]:
    """Errors raised inside begin with ``where``."""
    try:
        yield
    except Exception as error:
        with_context(error, where)
        raise


_WANTED = "a list of models, each alone or as (model, weight)"


def _parts(member: Any, number: int) -> tuple[Any, float, dict[str, Any]]:
    """The model, weight and load options of a member.

    Raises:
        InputError: it is no model, has no positive weight, or has options although it is loaded.
    """
    items = list(member) if isinstance(member, (tuple, list)) else [member]
    source, weight, options = [*items, *(1, {})[len(items) - 1 :]] if 1 <= len(items) <= 3 else (None, 1, {})
    if not isinstance(source, (str, os.PathLike, Reranker)):
        raise InputError(
            f"member {number} is {short(member)}; it must be a name, a folder or a Reranker, alone or as (model, "
            "weight) or (model, weight, options)"
        )
    checked = finite_number(weight)
    if checked is None or checked <= 0:
        raise InputError(
            f"the weight of member {number} ({short(source)}) is {short(weight)}; it must be a number above 0"
        )
    if not isinstance(options, dict) or not all(isinstance(name, str) for name in options):
        raise InputError(
            f"the options of member {number} ({short(source)}) are {short(options)}; they must be a dict of options of "
            "load"
        )
    if options and isinstance(source, Reranker):
        raise InputError(f"member {number} ({source!r}) is loaded already, so {sorted(options)!r} have no effect")
    return source, checked, options


def _check(combine: Combine, reranker: Reranker, scorer: AnyScorer) -> None:
    """Raise InputError if the scores of a member cannot be combined in this way."""
    check_method(combine, reranker.spec.name, scorer, reranker._space(scorer))


def _call_names(member: Member) -> list[str]:
    """The names of the model's own options of a call."""
    return [option.name for option in member.reranker.spec.options if option.when == "call"]


def _call_of(member: Member, call: CallOptions) -> CallOptions:
    """The options of a member's call.

    Raises:
        InputError: a value is invalid for this model.
    """
    own = {name: call.model[name] for name in _call_names(member) if name in call.model}
    rows = {name: getattr(call, name) for name in ("longdoc", "overlap")}
    return CallOptions.of(member.reranker.spec, {**rows, **own})


class _OfAllMembers:
    """A `Progress` of one member after another. Those to come are taken to have as much work as the present one."""

    def __init__(self, progress: Progress, members: int) -> None:
        self._progress = progress
        self._left = members
        self._before = self._total = 0

    def __call__(self, done: int, total: int) -> None:
        self._total = total
        self._progress(self._before + done, self._before + total * self._left)

    def next_member(self) -> None:
        """The present member is done."""
        self._before += self._total
        self._left -= 1
        self._total = 0
