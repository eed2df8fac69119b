"""Embedding models: one vector per text, compared by the cosine (Reimers & Gurevych, *Sentence-BERT*, 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rerank_core import Head, InputError, ModelSpec
from rerank_core.backends.torch.decoder.dense_decoder import is_decoder
from rerank_trainers.config.schema import Config, ModelConfig
from rerank_trainers.kinds.vectors import VectorKind
from rerank_trainers.model.kind import Loaded
from rerank_trainers.model.source import Source
from rerank_trainers.objectives.base import Objective
from rerank_trainers.objectives.matryoshka import Matryoshka
from rerank_trainers.publish.folders.embedding import write_embedding
from rerank_trainers.publish.folders.prompts import prompts_of

__all__ = ["Embedding"]


class Embedding(VectorKind):
    """An encoder or decoder whose hidden states are pooled. It may start from a late-interaction model with a pooling,
    such as `mini`."""

    name = "embedding"
    heads = ("cosine", "maxsim")
    pools = True
    new_width = 0
    first_folder = 2  # after 1_Pooling
    tag = "sentence-transformers"
    sentence = "An embedding model: the score is the cosine of the query's and the document's vector"

    def serves(self, spec: ModelSpec) -> bool:
        """Whether a model has one vector per text. The layers of late interaction are for vectors of tokens."""
        head = spec.head
        if head is None or head.kind == "cosine":
            return head is not None
        return head.kind == "maxsim" and head.pooling is not None and not (head.vectors and head.vectors.projection)

    def head(self, config: ModelConfig, like: ModelSpec | None) -> Head:
        """The pooling of the configuration, else of the followed model, else the mean."""
        if like is None or like.head is None:
            return Head.cosine(config.pooling or "mean")
        theirs = like.head if like.head.kind == "cosine" else Head.cosine(like.head.pooling or "mean")
        return theirs if config.pooling is None else replace(theirs, pooling=config.pooling)

    def load(self, source: Source, config: ModelConfig, spec: ModelSpec) -> Loaded:
        """As `VectorKind.load`; a decoder that is no embedding model yet reads the hidden state of an end token, which
        its tokenizer appends from now on.

        Raises:
            InputError: the template has text that no prompt can express, so that other libraries could not open the
                published folder.
        """
        prompts_of(spec)
        loaded = super().load(source, config, spec)
        if source.own is not None or not is_decoder(loaded.module):
            return loaded
        assert loaded.spec.head is not None
        pooling = config.pooling or (loaded.spec.head.pooling if source.follows is not None else "last")
        if pooling == "last":
            _append_end(loaded.tokenizer)
        return replace(loaded, spec=replace(loaded.spec, head=replace(loaded.spec.head, pooling=pooling)))

    def with_folders(self, head: Head, folders: tuple[str, ...]) -> Head:
        return replace(head, modules=folders)

    def bare(self, head: Head) -> Head:
        return replace(head, modules=())

    def check(self, config: Config) -> None:
        """As `VectorKind.check`; also refuses weights of Matryoshka widths without the widths."""
        super().check(config)
        if config.model.matryoshka_weights and not config.model.matryoshka:
            raise InputError(
                f"model.matryoshka_weights is {list(config.model.matryoshka_weights)!r}, and model.matryoshka has no "
                "widths; set both or neither"
            )

    def objective(self, objective: Objective, config: ModelConfig) -> Objective:
        """The objective at each Matryoshka width."""
        if not config.matryoshka:
            return objective
        return Matryoshka(objective, config.matryoshka, config.matryoshka_weights or None)

    def widths(self, config: ModelConfig, scorer: Any) -> tuple[int, ...]:
        """See `ModelKind.widths`."""
        if config.matryoshka and not scorer.spec.head.normalize:
            raise InputError(
                f"model.matryoshka is {list(config.matryoshka)!r}, and the vectors of this model are not scaled to "
                "length 1, as the beginnings of Matryoshka vectors are; leave it out"
            )
        widest = max(config.matryoshka, default=0)
        if widest > scorer.width:
            raise InputError(
                f"model.matryoshka has {widest}, and the vectors have {scorer.width} values; use at most {scorer.width}"
            )
        return tuple(sorted(config.matryoshka, reverse=True))

    def finish(self, folder: Path, spec: ModelSpec, widths: Sequence[int]) -> None:
        """Write the files of sentence-transformers."""
        write_embedding(folder, spec, widths=widths)

    def temperature(self, spec: ModelSpec) -> float:
        """FlagEmbedding's and RAG-Retrieval's temperature of cosines; 1 for products, which have no upper limit."""
        return 0.02 if spec.head is not None and spec.head.normalize else 1.0

    def settings(self, head: Head, spec: ModelSpec) -> dict[str, Any]:
        """The pooling."""
        return {"pooling": head.pooling}


def _append_end(tokenizer: Any) -> None:
    """Make a tokenizer end each text with its end token, unless it ends it with a special token already.

    Raises:
        InputError: it has no end token.
    """
    from tokenizers import processors

    ids = tokenizer("a")["input_ids"]
    if ids and ids[-1] in tokenizer.all_special_ids:
        return
    if tokenizer.eos_token_id is None:
        raise InputError(
            "the tokenizer has no end token, whose hidden state an embedding model of a decoder reads; set its "
            "eos_token, or model.pooling=mean"
        )
    raw = tokenizer.backend_tokenizer
    end = processors.TemplateProcessing(
        single=f"$A {tokenizer.eos_token}",
        pair=f"$A {tokenizer.eos_token} $B:1 {tokenizer.eos_token}:1",
        special_tokens=[(tokenizer.eos_token, tokenizer.eos_token_id)],
    )
    raw.post_processor = end if raw.post_processor is None else processors.Sequence([raw.post_processor, end])
