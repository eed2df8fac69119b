"""Late interaction: one vector per token, compared by MaxSim (Khattab & Zaharia, *ColBERT*, SIGIR 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from rerank_core import Head, InputError, ModelSpec, TokenVectors
from rerank_core.errors import short
from rerank_trainers.config.schema import ModelConfig
from rerank_trainers.kinds.vectors import VectorKind
from rerank_trainers.publish.folders.colbert import write_colbert

__all__ = ["ColBERT"]

# Set by the layers of the model, not by the configuration.
_OWN = ("projection",)


class ColBERT(VectorKind):
    """An encoder whose tokens each have a vector."""

    name = "colbert"
    heads = ("maxsim",)
    new_width = 128
    first_folder = 1
    tag = "late-interaction"
    sentence = "A late-interaction model: the score is MaxSim over token vectors"

    def head(self, config: ModelConfig, like: ModelSpec | None) -> Head:
        """The head of the followed model with the settings of the configuration."""
        theirs = like.head if like is not None and like.head is not None else Head.maxsim("sum")
        vectors = theirs.vectors or TokenVectors()
        try:
            vectors = replace(vectors, **_tokens(config))
        except TypeError as error:
            raise InputError(f"model.tokens is {short(config.tokens)}: {error}") from error
        # MaxSim alone is trained, so the pooled vector is no choice of the trained model.
        return Head.maxsim(config.reduce or theirs.reduce or "sum", vectors)

    def with_folders(self, head: Head, folders: tuple[str, ...]) -> Head:
        return replace(head, vectors=replace(head.vectors or TokenVectors(), projection=folders))

    def bare(self, head: Head) -> Head:
        return Head.maxsim()

    def finish(self, folder: Path, spec: ModelSpec, widths: Sequence[int]) -> None:
        """Write the files of sentence-transformers, PyLate and BGE-M3, where they can express the model."""
        write_colbert(folder, spec)

    def temperature(self, spec: ModelSpec) -> float:
        """0.02 for a mean of cosines, as RAG-Retrieval; 1 for their sum, as ColBERT."""
        return 0.02 if spec.head is not None and spec.head.reduce == "mean" else 1.0

    def settings(self, head: Head, spec: ModelSpec) -> dict[str, Any]:
        """MaxSim's sum or mean."""
        return {"reduce": head.reduce}


def _tokens(config: ModelConfig) -> dict[str, Any]:
    given = dict(config.tokens or {})
    known = sorted(one.name for one in fields(TokenVectors) if one.name not in _OWN)
    if unknown := sorted(given.keys() - set(known)):
        raise InputError(f"model.tokens has {short(unknown[0])}; its fields are {', '.join(known)}")
    return given
