"""The ways to score on a GPU: ours, Hugging Face code as an expert would write it, sentence-transformers."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from parts.gpu.subjects import Subject
from parts.gpu.timing import Way
from parts.qwen3_card import SETTINGS
from rerank_core.backends.torch.base import TorchScorer
from rerank_core.backends.torch.decoder.causal_lm import DecoderScorer
from rerank_core.planning.longdoc import FirstP
from rerank_core.planning.parallel import compute_all
from rerank_core.planning.row_plan import Job, RowPlan, Rules
from rerank_core.scorer import Output

__all__ = ["from_texts", "hugging_face", "least_tokens", "ours", "sentence_transformers"]


def _rules(subject: Subject, budget: int | None = None) -> Rules:
    length = 1024 if subject.shape.causal else 512
    return Rules(longdoc=FirstP(), max_length=length, token_budget=budget)


def least_tokens(subject: Subject, jobs: Sequence[Job]) -> int:
    """Number of tokens without padding, with the shared prefix of each query counted once."""
    plan = RowPlan(subject.packed, jobs, _rules(subject), deduplicate=False)
    return sum(window.length for window in plan.windows) + sum(len(row.ids) for row in plan.query_rows.values())


def ours(subject: Subject, jobs: Sequence[Job], budget: int, *, packed: bool = True, allow_varlen: bool = True) -> Way:
    """Our scores from token ids, in batches of a token budget."""
    scorer = subject.packed if packed else subject.padded
    plan = RowPlan(scorer, jobs, _rules(subject, budget), deduplicate=False)
    return lambda: _scores(scorer, plan, allow_varlen=allow_varlen)


def from_texts(subject: Subject, jobs: Sequence[Job], budget: int) -> Way:
    """Our scores from texts, tokenization included."""
    rules = _rules(subject, budget)
    return lambda: _scores(subject.packed, RowPlan(subject.packed, jobs, rules, deduplicate=False), allow_varlen=True)


def _scores(scorer: TorchScorer, plan: RowPlan, *, allow_varlen: bool) -> list[float]:
    scorer._allow_varlen = allow_varlen
    if isinstance(scorer, DecoderScorer):
        scorer.runner.allow_varlen = allow_varlen
    scores = [0.0] * len(plan.windows)

    def record(batch: Sequence[int], output: Output) -> None:
        (values,) = output.scores.values()
        for index, score in zip(batch, values, strict=True):
            scores[index] = score

    compute_all(scorer, plan.batches(), plan.forward, record)
    return scores


def hugging_face(subject: Subject, jobs: Sequence[Job], size: int) -> Way:
    """Scores of the same rows by transformers' module: rows sorted by length, ``size`` rows per batch; for a causal
    model only the logits of the last token, without a cache."""
    module, labels = subject.plain, subject.labels
    plan = RowPlan(subject.padded, jobs, _rules(subject), deduplicate=False)
    rows = []
    for window in plan.windows:
        shared = plan.query_rows[window.query].ids if window.query in plan.query_rows else ()
        rows.append([*shared, *plan.row(window).ids])
    order = sorted(range(len(rows)), key=lambda index: -len(rows[index]))
    pad = module.config.pad_token_id

    @torch.inference_mode()
    def run() -> list[float]:
        scores = [0.0] * len(rows)
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            width = len(rows[chosen[0]])
            padding = [[pad] * (width - len(rows[index])) for index in chosen]
            lengths = torch.tensor([len(rows[index]) for index in chosen])
            if labels is None:
                ids = torch.tensor([rows[index] + blank for index, blank in zip(chosen, padding, strict=True)])
                mask = torch.arange(width)[None] < lengths[:, None]
                inputs = {"input_ids": ids, "attention_mask": mask.long()}
                options: dict[str, Any] = {}
            else:
                ids = torch.tensor([blank + rows[index] for index, blank in zip(chosen, padding, strict=True)])
                mask = torch.arange(width)[None] >= width - lengths[:, None]
                positions = (mask.long().cumsum(-1) - 1).clamp(min=0)
                inputs = {"input_ids": ids, "attention_mask": mask.long(), "position_ids": positions}
                options = {"logits_to_keep": 1, "use_cache": False}
            logits = module(**{name: each.to(module.device) for name, each in inputs.items()}, **options).logits
            values = logits[:, 0] if labels is None else _log_odds(logits[:, -1], labels)
            for index, score in zip(chosen, values.float().tolist(), strict=True):
                scores[index] = score
        return scores

    return run


def _log_odds(logits: torch.Tensor, labels: tuple[int, ...]) -> torch.Tensor:
    positive, *negative = (logits[:, label].float() for label in labels)
    return positive - negative[0] if negative else positive


def sentence_transformers(subject: Subject, jobs: Sequence[Job], sizes: Sequence[int], folder: Path) -> dict[str, Way]:
    """Scores of sentence-transformers' CrossEncoder with the same weights, from texts, by the rows of a batch. Nothing
    where the library is not installed, or cannot score such a model: of causal ones it supports those with a chat
    template and the log-odds of yes over no."""
    if subject.shape.family not in ("qwen3", "xlm-roberta"):
        return {}
    try:
        from sentence_transformers import CrossEncoder
    except ImportError:
        return {}
    subject.plain.save_pretrained(folder)
    subject.tokenizer.save(str(folder / "tokenizer.json"))
    own = SETTINGS if subject.shape.causal else {"pad_token": "<pad>", "cls_token": "<s>", "sep_token": "</s>"}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 8192, **own}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    model = CrossEncoder(
        str(folder),
        device=str(subject.plain.device),
        max_length=_rules(subject).max_length,
        model_kwargs={"dtype": subject.plain.dtype},
    )
    pairs = [(job.query, document.text) for job in jobs for document in job.documents]
    plain = torch.nn.Identity()

    def scores(size: int) -> list[float]:
        values = model.predict(pairs, activation_fn=plain, batch_size=size, show_progress_bar=False)
        return [float(value) for value in values]

    return {f"sentence-transformers, {size}": functools.partial(scores, size) for size in sizes}
