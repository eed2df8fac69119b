"""Specs of embedding models that sentence-transformers saved, from all that the folder says: pooling, layers, prompts,
similarity and limits."""

from __future__ import annotations

import os
from pathlib import Path

from rerank_core.errors import CheckpointError, short
from rerank_core.spec.folders.modules_json import modules_after_transformer, pooling_of
from rerank_core.spec.folders.transformer_settings import encoder_settings
from rerank_core.spec.head import Head
from rerank_core.spec.head_options import truncate_option
from rerank_core.spec.hub_or_folder import model_name_of
from rerank_core.spec.model_option import ModelOption
from rerank_core.spec.model_spec import ModelSpec
from rerank_core.spec.reranker_json import has_spec, max_length_of
from rerank_core.spec.template import Template
from rerank_core.spec.untrusted_files import JsonObject, optional_json, reading

__all__ = ["other_vectors", "spec_of_embedder"]

_KNOWN = ("model_type", "__version__", "prompts", "default_prompt_name", "similarity_fn_name", "truncate_dim",
          "keep_in_fp32_modules", "requirements")  # fmt: skip
_OTHERS = {
    "MultiVectorEncoder": "late interaction: pip install rerank-colbert",
    "ColBERT": "late interaction: pip install rerank-colbert",
    "SparseEncoder": "sparse vectors, which no scorer here compares",
}
_LAYERS = ("Dense", "LayerNorm", "Dropout", "Normalize")
_DOCUMENT = ("document", "passage", "corpus")


def spec_of_embedder(directory: Path) -> ModelSpec | None:
    """The spec of an embedding model's folder without ``reranker.json``; None for a folder without ``modules.json``,
    and for a sequence classifier's that does not say that it is a SentenceTransformer.

    Its score is the cosine of the vectors that ``encode_query`` and ``encode_document`` give, or their product where
    the folder names ``dot``. Vectors are scaled to length 1, except where the similarity is ``dot`` and no Normalize
    module ends the stack.

    Raises:
        CheckpointError: a setting that is invalid or not supported; the message names it.
    """
    if has_spec(directory) or not os.path.lexists(directory / "modules.json"):
        return None
    saved = optional_json(directory / "config_sentence_transformers.json")
    kind = saved.of("model_type", str, "")
    config = optional_json(directory / "config.json")
    if not kind and any(name.endswith("ForSequenceClassification") for name in config.texts("architectures") or ()):
        return None  # its score head decides
    _check_kind(saved)
    if unknown := sorted(set(saved) - set(_KNOWN)):
        raise CheckpointError(
            f"{saved.file}: {unknown[0]} is {short(saved[unknown[0]])}, a setting that is not supported; describe the "
            "model in a reranker.json of the folder with rerank_core.write_spec"
        )
    settings = encoder_settings(directory)
    if settings.query_expansion:
        raise CheckpointError(
            f"{settings.query_expansion.file}: query_expansion is {short(dict(settings.query_expansion))}; tokens that "
            "fill a query up are supported for late interaction only"
        )
    query, doc = _prompts(saved)
    with reading(directory, inputs=False):
        return ModelSpec(
            name=model_name_of(directory),
            checkpoint=str(directory.resolve()),
            template=Template.each("{instruction}{query}", doc + "{doc}"),
            head=_head(directory, saved),
            max_length=settings.max_length or max_length_of(directory, config),
            options=(
                ModelOption("instruction", "str", "the prompt, directly before the query", default=query, when="call"),
                truncate_option(_truncate_dim(saved)),
            ),
            description="embedding model of sentence-transformers, from a directory",
        )


def other_vectors(spec: ModelSpec, directory: Path) -> str | None:
    """How the vectors of an embedding model's folder differ from those of a spec that takes its weights; None where
    they do not, and for any other spec or folder.

    Raises:
        CheckpointError: modules that are not supported.
    """
    head = spec.head
    if head is None or head.kind != "cosine" or has_spec(directory) or not os.path.lexists(directory / "modules.json"):
        return None
    saved = optional_json(directory / "config_sentence_transformers.json")
    _check_kind(saved)
    found = _head(directory, saved)
    changed = [name for name in ("pooling", "modules", "normalize") if getattr(found, name) != getattr(head, name)]
    return ", ".join(f"{name} is {getattr(found, name)!r} and not {getattr(head, name)!r}" for name in changed) or None


def _check_kind(saved: JsonObject) -> None:
    """Refuse a folder that says it is another kind of model than a SentenceTransformer."""
    kind = saved.of("model_type", str, "") or "SentenceTransformer"
    if kind != "SentenceTransformer":
        raise saved.wrong("model_type", f"that is {_OTHERS.get(kind, 'a kind that is not known here')}")


def _head(directory: Path, saved: JsonObject) -> Head:
    similarity = saved.of("similarity_fn_name", str, "") or "cosine"
    if similarity not in ("cosine", "dot"):
        raise saved.wrong(
            "similarity_fn_name",
            "supported are 'cosine' and 'dot' (for vectors of length 1, 'euclidean' gives the order of 'cosine')",
        )
    modules = modules_after_transformer(directory, vectors="sentence_embedding")
    kinds = [module.kind for module in modules]
    if not kinds or kinds[0] != "Pooling" or not set(kinds[1:]) <= set(_LAYERS):
        raise CheckpointError(
            f"{directory / 'modules.json'}: the modules after the Transformer are {kinds!r}; supported is Pooling, "
            f"then any of {', '.join(_LAYERS)}"
        )
    # The product of shortened vectors is no cosine: sentence-transformers does not scale them to length 1 again.
    normalized = kinds[-1] == "Normalize" and not (similarity == "dot" and _truncate_dim(saved))
    layers = tuple(module.path for module in modules[1 : -1 if normalized else None])
    return Head.cosine(pooling_of(modules[0].settings), layers, normalize=normalized or similarity == "cosine")


def _prompts(saved: JsonObject) -> tuple[str, str]:
    """The prompts of queries and of documents. A side without one of its own has the default prompt, which
    sentence-transformers' ``encode`` puts before every text, unless that is the prompt of the other side."""
    prompts = saved.inner("prompts")
    texts = {name: prompts.of(name, str, "") for name in prompts}
    name = saved.of("default_prompt_name", str, "")
    if name and name not in ("query", "document", *texts):
        raise saved.wrong("default_prompt_name", f"the prompts are {sorted(texts)!r}")
    default = texts.get(name, "")
    query = texts.get("query", "" if name in _DOCUMENT else default)
    doc = next((texts[key] for key in _DOCUMENT if key in texts), "" if name == "query" else default)
    return query, doc


def _truncate_dim(saved: JsonObject) -> int | None:
    if saved.get("truncate_dim") is None:
        return None
    value = saved.of("truncate_dim", int, 0)
    if value < 1:
        raise saved.wrong("truncate_dim", "it must be a positive integer")
    return value
