"""`mteb_model`: any model that `load` opens, as `mteb.evaluate` takes it."""

from __future__ import annotations

import os
import time
from typing import Any

from rerank_core import Indexable, InputError, Reranker, Scorer, load
from rerank_eval.mteb.installed import need_mteb
from rerank_eval.mteb.meta import model_meta
from rerank_eval.mteb.models import EmbeddingModel, IndexModel, ListModel, MtebModel, PairModel
from rerank_eval.mteb.requests import Wording
from rerank_eval.runs.facts import facts_of, public_options

__all__ = ["mteb_model"]


def mteb_model(source: str | os.PathLike[str], *, task_prompts: bool = False, **options: Any) -> MtebModel:
    """Load a model for ``mteb.evaluate(model, tasks)``.

    Cross-encoders and language models fulfil mteb's CrossEncoderProtocol, late interaction its SearchProtocol,
    embedding models SearchProtocol and EncoderProtocol, listwise models and cascades SearchProtocol for tasks with
    candidates. Scores are raw and equal to those of `rerank eval`.

    Args:
        source: a name, a hub id or a directory, as for `load`.
        task_prompts: give the model the prompt of each task as its option ``instruction``. By default it has its own.
            A query's own instruction is always given.
        options: of `load`.

    Raises:
        MissingDependencyError: mteb 2 is not installed.
        InputError: ``task_prompts`` for a model without instructions, or an option is unknown.
        RerankError: the model cannot be loaded; see `load`.
    """
    need_mteb()
    start = time.perf_counter()
    reranker = load(source, **options)
    try:
        return _wrapped(reranker, os.fspath(source), task_prompts, time.perf_counter() - start)
    except BaseException:
        reranker.close()
        raise


def _wrapped(reranker: Reranker, source: str, task_prompts: bool, load_seconds: float) -> MtebModel:
    takes_instruction = any(option.name == "instruction" for option in reranker.spec.options)
    if task_prompts and not takes_instruction:
        raise InputError(
            f"task_prompts is True, and {reranker.spec.name!r} has no option 'instruction'; leave task_prompts out"
        )
    facts = facts_of(reranker, load_seconds)
    kind, embed_dim = _kind_of(reranker, facts.score_space)
    meta = model_meta(
        source,
        reranker.spec.facts(),
        facts,
        reranker.fingerprint,
        options=public_options(reranker),
        embed_dim=embed_dim,
        experiment={"task_prompts": True} if task_prompts else None,
    )
    return kind(reranker, meta, Wording(takes_instruction, task_prompts))


def _kind_of(reranker: Reranker, score_space: str) -> tuple[type[MtebModel], int | None]:
    """The class of a model, and the width of its vectors where a text has one."""
    scorer = reranker.scorer
    if score_space == "rank":
        return ListModel, None
    if not isinstance(scorer, Scorer) or not isinstance(scorer, Indexable) or scorer.layout != "separate":
        return PairModel, None
    if hasattr(scorer, "encode_queries"):  # vectors for callers
        vectors = reranker.encode(["a"], side="query")
        if not isinstance(vectors, list):
            return EmbeddingModel, int(vectors.shape[1])
    return IndexModel, None
