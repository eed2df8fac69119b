"""PyLate's layout, which sentence-transformers >= 6 reads too."""

from __future__ import annotations

from typing import Any

import torch

from rerank_core.backends.torch.side_layers.projection import Projection
from rerank_trainers.publish.folders.dense import write_dense
from rerank_trainers.publish.folders.json_files import read_object, write_json
from rerank_trainers.publish.folders.late_folder import LateFolder

__all__ = ["pylate_fault", "pylate_notes", "write_pylate"]

_IDENTITY = "1_Dense"


def pylate_fault(late: LateFolder) -> str | None:
    """Why PyLate cannot express the model; None if it can."""
    if fault := late.fault():
        return fault
    vectors = late.vectors
    if vectors.skip_first:
        return "it has no setting for a first token without a vector"
    if vectors.skip_in_queries and late.skipped:
        return "its skip-list is for documents only"
    if not vectors.normalize:
        return "it scales every vector to length 1"
    if any(late.markers) and len(late.frame[0]) != 1:
        return f"it puts a marker behind a text's first token, and the tokenizer puts {late.frame[0]!r} in front"
    if vectors.expand_with is not None and vectors.expand_with != _filler(late):
        return f"it fills queries up with {_filler(late)!r}, and the model with {vectors.expand_with!r}"
    return None


def pylate_notes(late: LateFolder) -> list[str]:
    """Differences that remain for its users."""
    notes = []
    if late.head.reduce == "mean":
        notes.append("it sums where the model averages over the query's vectors; the order is the same")
    if any(late.prompts):
        notes.append('it applies prompts only where encode() is told to: prompt_name="query" or "document"')
    if late.vectors.expand_to is not None:
        notes.append(
            f"it cuts queries at {late.vectors.expand_to} tokens, and in this folder sentence-transformers does so too"
        )
    return notes


def write_pylate(late: LateFolder) -> None:
    """Write the files. A model without a projection gets one that changes nothing: PyLate adds a random one where there
    is none."""
    names = list(late.vectors.projection)
    if not names:
        names = [_IDENTITY]
        width = int(read_object(late.folder / "config.json")["hidden_size"])
        write_dense(late.folder / _IDENTITY, Projection(_IDENTITY, width, torch.eye(width)))
    modules = [("", "sentence_transformers.models.Transformer")]
    modules += [(name, "pylate.models.Dense.Dense") for name in names]
    write_json(
        late.folder / "modules.json",
        [
            {"idx": number, "name": str(number), "path": path, "type": kind}
            for number, (path, kind) in enumerate(modules)
        ],
    )
    # Settings of later releases would be refused here.
    write_json(
        late.folder / "sentence_bert_config.json", {"max_seq_length": late.spec.max_length, "do_lower_case": False}
    )
    vectors = late.vectors
    expansion: dict[str, Any] | None = None
    if vectors.expand_to is not None:
        expansion = {
            "strategy": "fixed",
            "attend": vectors.attend_expansion,
            "token": vectors.expand_with,
            "length": vectors.expand_to,
        }
    write_json(
        late.folder / "config_sentence_transformers.json",
        {
            "model_type": "ColBERT",
            "prompts": {"query": late.prompts.query, "document": late.prompts.doc},
            "default_prompt_name": None,
            "similarity_fn_name": "meanmaxsim" if late.head.reduce == "mean" else "maxsim",
            "query_prefix": late.markers.query,
            "document_prefix": late.markers.doc,
            "query_length": vectors.expand_to or late.query_limit or late.spec.max_length,
            "document_length": late.spec.max_length,
            "do_query_expansion": expansion is not None,
            "attend_to_expansion_tokens": vectors.attend_expansion and expansion is not None,
            "skiplist_words": late.skipped,
            # Read by sentence-transformers only.
            "query_expansion": expansion,
        },
    )


def _filler(late: LateFolder) -> str | None:
    """The token with which PyLate fills queries up: the mask token, else the end token."""
    settings = read_object(late.folder / "tokenizer_config.json")
    token = settings.get("mask_token") or settings.get("eos_token")
    return token.get("content") if isinstance(token, dict) else token
