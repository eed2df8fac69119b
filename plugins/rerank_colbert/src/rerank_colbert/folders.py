"""Specs of late-interaction checkpoints, from the files in their folder and never from its path.

The formats are those of sentence-transformers >= 6 (`MultiVectorEncoder`), PyLate, Stanford's ColBERT, and BGE-M3 and
RAG-Retrieval (``colbert_linear.pt``), read as their own loaders read them.
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rerank_core import CheckpointError, Head, ModelOption, ModelSpec, Template, TokenVectors
from rerank_core.spec import (
    JsonObject,
    inside,
    max_length_of,
    model_name_of,
    optional_json,
    read_json,
    read_json_list,
    reading,
)

__all__ = ["spec_of"]

PUNCTUATION = tuple(string.punctuation)


def spec_of(directory: Path, m3_options: tuple[ModelOption, ...]) -> ModelSpec | None:
    """The spec of a late-interaction checkpoint; None for any other.

    Raises:
        CheckpointError: a late-interaction checkpoint with settings that are invalid or not supported.
    """
    saved = optional_json(directory / "config_sentence_transformers.json")
    config = optional_json(directory / "config.json")
    with reading(directory, inputs=False):
        if saved.get("model_type") == "MultiVectorEncoder":
            return _sentence_transformers(directory, saved, config)
        if saved.get("model_type") == "ColBERT" or "query_prefix" in saved:
            return _pylate(directory, saved)
        if isinstance(names := config.get("architectures"), list) and "HF_ColBERT" in names:
            return _stanford(directory)
        if (directory / "colbert_linear.pt").is_file():
            return _bge_m3(directory, config, m3_options)
    return None


def _sentence_transformers(directory: Path, saved: JsonObject, config: JsonObject) -> ModelSpec:
    dense, masks, normalize = _modules(directory)
    settings = optional_json(directory / "sentence_bert_config.json")
    if len(masks) > 1 or any(mask.get("keep_only_token_ids") for mask in masks):
        raise CheckpointError(f"{directory} keeps only some token ids, as image models do; that is not supported")
    mask = masks[0] if masks else JsonObject({}, directory)
    tasks = mask.texts("skiplist_tasks") or ("document",)
    words = (mask.texts("skiplist_words") or ()) if "document" in tasks else ()
    expansion = settings.inner("query_expansion")
    vectors = TokenVectors(
        projection=dense,
        normalize=normalize,
        skip=words,
        skip_in_queries=bool(words) and "query" in tasks,
        **_expanded(
            directory,
            expansion.of("length", int, 0),
            expansion.of("token", str, ""),
            expansion.of("attend", bool, False),
        ),
    )
    prompts = saved.inner("prompts")
    query_prompt = prompts.of("query", str, "")
    doc_prompt = next((text for key in ("document", "passage", "corpus") if (text := prompts.of(key, str, ""))), "")
    return _spec(
        directory,
        template=_template(*_markers(directory, [query_prompt, doc_prompt], added_only=True)),
        head=Head.maxsim("mean" if saved.get("similarity_fn_name") == "meanmaxsim" else "sum", vectors),
        max_length=settings.of("document_length", int, 0)
        or settings.of("max_seq_length", int, 0)
        or max_length_of(directory, config),
        kind="MultiVectorEncoder of sentence-transformers",
    )


def _pylate(directory: Path, saved: JsonObject) -> ModelSpec:
    dense, _, _ = _modules(directory)
    words = saved.texts("skiplist_words")
    length = saved.of("query_length", int, 0) or 32
    expands = saved.of("do_query_expansion", bool, True)
    vectors = TokenVectors(
        projection=dense,
        skip=PUNCTUATION if words is None else words,
        **_expanded(directory, length if expands else 0, "", saved.of("attend_to_expansion_tokens", bool, False)),
    )
    prompts = saved.inner("prompts")
    # An empty prefix, or null, means no prefix.
    prefixes = [
        saved.of(name, str, "") if name in saved else default
        for name, default in (("query_prefix", "[Q] "), ("document_prefix", "[D] "))
    ]
    (query_marker, query), (doc_marker, doc) = _markers(directory, prefixes, added_only=False)
    return _spec(
        directory,
        template=_template(
            (query_marker, query + prompts.of("query", str, "")), (doc_marker, doc + prompts.of("document", str, ""))
        ),
        head=Head.maxsim("sum", vectors),
        max_length=saved.of("document_length", int, 0) or 180,
        kind="ColBERT of PyLate",
    )


def _stanford(directory: Path) -> ModelSpec:
    settings = optional_json(directory / "artifact.metadata")
    if settings.get("similarity", "cosine") != "cosine":
        raise settings.wrong("similarity", "only 'cosine' is supported")
    attends = settings.of("attend_to_mask_tokens", bool, False)
    return _spec(
        directory,
        template=Template.each(
            query_marker=settings.of("query_token_id", str, "") or "[unused0]",
            doc_marker=settings.of("doc_token_id", str, "") or "[unused1]",
        ),
        head=Head.maxsim(
            "sum",
            TokenVectors(
                projection=("linear.weight",),
                skip=PUNCTUATION if settings.of("mask_punctuation", bool, True) else (),
                **_expanded(directory, settings.of("query_maxlen", int, 0) or 32, "", attends),
            ),
        ),
        max_length=settings.of("doc_maxlen", int, 0) or 220,
        kind="ColBERT",
    )


def _bge_m3(directory: Path, config: JsonObject, m3_options: tuple[ModelOption, ...]) -> ModelSpec:
    is_m3 = (directory / "sparse_linear.pt").is_file()
    return _spec(
        directory,
        template=Template.each(),
        head=Head.maxsim("mean", TokenVectors(projection=("colbert_linear.pt",), skip_first=True)),
        max_length=max_length_of(directory, config),
        kind="BGE-M3" if is_m3 else "late interaction of RAG-Retrieval",
        fields={"scorer": "rerank_colbert.m3:build", "options": m3_options} if is_m3 else {},
    )


def _spec(
    directory: Path,
    *,
    template: Template,
    head: Head,
    max_length: int,
    kind: str,
    fields: Mapping[str, Any] | None = None,
) -> ModelSpec:
    return ModelSpec(
        name=model_name_of(directory),
        template=template,
        head=head,
        max_length=max_length,
        description=f"{kind}, from a directory",
        **(fields or {}),
    )


def _modules(directory: Path) -> tuple[tuple[str, ...], list[JsonObject], bool]:
    """From ``modules.json``: the folders of the dense layers, the settings of the masks, and whether vectors are
    normalised. The first module must be the encoder in the folder itself."""
    file = directory / "modules.json"
    modules = [(item.of("type", str, "").rpartition(".")[2], item.of("path", str, "")) for item in read_json_list(file)]
    if not modules or modules[0] != ("Transformer", ""):
        raise CheckpointError(f"{file}: the encoder must be a Transformer in the folder itself, not {modules[:1]!r}")
    if optional_json(directory / "sentence_bert_config.json").of("do_lower_case", bool, False):
        raise CheckpointError(f"{directory}: do_lower_case outside the tokenizer is not supported")
    known = ("Dense", "MultiVectorMask", "Normalize")
    for kind, path in modules[1:]:
        if kind not in known:
            raise CheckpointError(f"{file}: {path!r} is a {kind}, which changes the vectors; known are {known!r}")
    dense = tuple(path for kind, path in modules if kind == "Dense")
    masks = [
        optional_json(inside(directory, path, file) / "config.json")
        for kind, path in modules
        if kind == "MultiVectorMask"
    ]
    return dense, masks, any(kind == "Normalize" for kind, _ in modules)


def _markers(directory: Path, prompts: Sequence[str], *, added_only: bool) -> list[tuple[str, str]]:
    """Each prompt as ``(marker, literal text)``, of which one is empty. A prompt is a marker where the tokenizer has it
    as one token; otherwise it is literal text before the caller's.

    Args:
        added_only: only added tokens can be markers. PyLate and Stanford's ColBERT insert theirs by id, so for them any
            token of the vocabulary can.
    """
    tokens: set[str] = set()
    if any(prompts):
        file = read_json(directory / "tokenizer.json")
        tokens = {JsonObject(token, file.file).of("content", str, "") for token in file.of("added_tokens", list, [])}
        if not added_only:
            tokens.update(_vocabulary(file))
    markers = []
    for prompt in prompts:
        marker = next((text for text in (prompt, prompt.strip()) if text in tokens), "") if prompt else ""
        markers.append((marker, "") if marker else ("", prompt))
    return markers


def _vocabulary(file: JsonObject) -> list[str]:
    vocabulary = file.inner("model").get("vocab") or ()
    return list(vocabulary) if isinstance(vocabulary, dict) else [token for token, _ in vocabulary]


def _template(query: tuple[str, str], doc: tuple[str, str]) -> Template:
    return Template.each(query[1] + "{query}", doc[1] + "{doc}", query_marker=query[0], doc_marker=doc[0])


def _expanded(directory: Path, length: int, token: str, attend: bool) -> dict[str, Any]:
    """The fields of `TokenVectors` for query expansion. By default queries are filled with the mask token, or with the
    end token where the tokenizer has no mask token."""
    if not length:
        return {}
    if not token:
        names = {
            **optional_json(directory / "special_tokens_map.json"),
            **optional_json(directory / "tokenizer_config.json"),
        }
        entry = names.get("mask_token") or names.get("eos_token")
        token = entry.get("content") if isinstance(entry, Mapping) else entry
    if not token or not isinstance(token, str):
        raise CheckpointError(f"{directory}: queries are filled up, and the tokenizer names neither mask nor eos token")
    return {"expand_to": length, "expand_with": token, "attend_expansion": attend}
