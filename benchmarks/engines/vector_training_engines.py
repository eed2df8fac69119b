"""Trainers of embedding and late-interaction models, each in the environment of its library: run as
``vector_training_engines.py NAME DIRECTORY``; requests, answers and checks are those of `training_engines`.

Every engine has the contrastive loss that its library's documentation shows first, over the same rows in the same
order: a query, a relevant text and an irrelevant one, and all texts of the step as negatives.
"""

from __future__ import annotations

import sys
from typing import Any

from engines.training_engines import Make, main, ours

SCALE = 20.0
"""Of cosines: sentence-transformers' default, a temperature of 0.05."""


def embedding(directory: str, work: dict[str, Any], arguments: dict[str, Any], **options: Any) -> Any:
    objective = {"name": "infonce", "temperature": 1 / SCALE}
    return ours(directory, work, arguments, objective=[objective], model={"kind": "embedding"}, **options)


def colbert(directory: str, work: dict[str, Any], arguments: dict[str, Any], **options: Any) -> Any:
    objective = {"name": "infonce", "temperature": 1.0}
    return ours(directory, work, arguments, objective=[objective], model={"kind": "colbert"}, **options)


def _columns(work: dict[str, Any]) -> Any:
    from datasets import Dataset

    groups = work["groups"]
    columns: dict[str, list[str]] = {"query": [query for query, _ in groups]}
    for place, name in enumerate(("positive", "negative")):
        columns[name] = [docs[place] for _, docs in groups]
    return Dataset.from_dict(columns)


def _in_order(dataset: Any, **more: Any) -> Any:
    from torch.utils.data import SequentialSampler

    try:
        from sentence_transformers.base.sampler import DefaultBatchSampler
    except ImportError:  # PyLate wants a release before 6
        from sentence_transformers.sampler import DefaultBatchSampler

    return DefaultBatchSampler(SequentialSampler(dataset), **more)


def sentence_transformers(
    directory: str, work: dict[str, Any], arguments: dict[str, Any], *, cached: bool = False
) -> Any:
    """MultipleNegativesRankingLoss, or its GradCache form with its default of 32 texts a pass."""
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.sentence_transformer import losses

    model = SentenceTransformer(directory, device=work["device"])
    model.max_seq_length = work["max_length"]
    kind = losses.CachedMultipleNegativesRankingLoss if cached else losses.MultipleNegativesRankingLoss
    train = SentenceTransformerTrainingArguments(
        per_device_train_batch_size=work["batch"], batch_sampler=_in_order, **arguments
    )
    return SentenceTransformerTrainer(
        model=model, args=train, train_dataset=_columns(work), loss=kind(model, scale=SCALE)
    )


def sentence_transformers_cached(directory: str, work: dict[str, Any], arguments: dict[str, Any]) -> Any:
    return sentence_transformers(directory, work, arguments, cached=True)


def sentence_transformers_colbert(directory: str, work: dict[str, Any], arguments: dict[str, Any]) -> Any:
    """MultiVectorMultipleNegativesRankingLoss: MaxSim as a sum, without a temperature."""
    from sentence_transformers import MultiVectorEncoder
    from sentence_transformers.multi_vector_encoder import (
        MultiVectorEncoderTrainer,
        MultiVectorEncoderTrainingArguments,
        losses,
    )

    model = MultiVectorEncoder(directory, device=work["device"])
    model.max_seq_length = work["max_length"]
    train = MultiVectorEncoderTrainingArguments(
        per_device_train_batch_size=work["batch"], batch_sampler=_in_order, **arguments
    )
    loss = losses.MultiVectorMultipleNegativesRankingLoss(model)
    return MultiVectorEncoderTrainer(model=model, args=train, train_dataset=_columns(work), loss=loss)


def pylate_colbert(directory: str, work: dict[str, Any], arguments: dict[str, Any]) -> Any:
    """Contrastive: MaxSim as a sum, without a temperature; all documents of the step are negatives."""
    from pylate import losses, models, utils
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments

    model = models.ColBERT(directory, device=work["device"])
    train = SentenceTransformerTrainingArguments(
        per_device_train_batch_size=work["batch"], batch_sampler=_in_order, **arguments
    )
    return SentenceTransformerTrainer(
        model=model, args=train, train_dataset=_columns(work), loss=losses.Contrastive(model),
        data_collator=utils.ColBERTCollator(model.tokenize),
    )  # fmt: skip


ENGINES: dict[str, Make] = {
    "embedding": embedding,
    "colbert": colbert,
    "sentence-transformers": sentence_transformers,
    "sentence-transformers-cached": sentence_transformers_cached,
    "sentence-transformers-colbert": sentence_transformers_colbert,
    "pylate-colbert": pylate_colbert,
}


if __name__ == "__main__":
    main(*sys.argv[1:], engines=ENGINES)
