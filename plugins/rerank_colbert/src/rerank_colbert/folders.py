"""What a checkpoint's files say of its convention. Nothing is concluded from a path.

sentence-transformers >= 6 (`MultiVectorEncoder`), PyLate, Stanford's ColBERT and the ``colbert_linear.pt`` of BGE-M3
and RAG-Retrieval; formats as their loaders read them.
"""

from __future__ import annotations

import os
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rerank_core import CheckpointError, Head, ModelOption, ModelSpec, Template, TokenVectors
from rerank_core.spec import JsonObject, inside, max_length_of, model_name_of, read_json, read_json_list, reading

__all__ = ["spec_of"]

PUNCTUATION = tuple(string.punctuation)


def spec_of(directory: Path, m3_options: tuple[ModelOption, ...]) -> ModelSpec | None:
    """The spec of a late-interaction checkpoint; None for any other.

    Raises:
        CheckpointError: a late-interaction checkpoint that cannot be read as its makers do.
    """
    saved = _optional(directory / "config_sentence_transformers.json")
    config = _optional(directory / "config.json")
    with reading(directory, inputs=False):
        if saved.get("model_type") == "MultiVectorEncoder":
            return _sentence_transformers(directory, saved, config)
        if saved.get("model_type") == "ColBERT" or "query_prefix" in saved:
            return _pylate(directory, saved)
        if isinstance(listed := config.get("architectures"), list) and "HF_ColBERT" in listed:
            return _stanford(directory)
        if (directory / "colbert_linear.pt").is_file():
            return _bge_m3(directory, config, m3_options)
    return None


def _sentence_transformers(directory: Path, saved: JsonObject, config: JsonObject) -> ModelSpec:
    dense, masks, normalize = _modules(directory)
    own = _optional(directory / "sentence_bert_config.json")
    if len(masks) > 1 or any(mask.get("keep_only_token_ids") for mask in masks):
        raise CheckpointError(f"{directory} scores only chosen tokens, as models of images do; that is not supported")
    mask = masks[0] if masks else JsonObject({}, directory)
    tasks = mask.texts("skiplist_tasks") or ("document",)
    words = (mask.texts("skiplist_words") or ()) if "document" in tasks else ()
    expansion = own.inner("query_expansion")
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
    asked = _before(directory, prompts.of("query", str, ""), added_only=True)
    read = next((text for key in ("document", "passage", "corpus") if (text := prompts.of(key, str, ""))), "")
    told = _before(directory, read, added_only=True)
    return _spec(
        directory,
        template=_template(asked, told),
        head=Head.maxsim("mean" if saved.get("similarity_fn_name") == "meanmaxsim" else "sum", vectors),
        max_length=own.of("document_length", int, 0)
        or own.of("max_seq_length", int, 0)
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
    # An empty prefix, or null, is none at all.
    markers = [
        saved.of(name, str, "") if name in saved else usual
        for name, usual in (("query_prefix", "[Q] "), ("document_prefix", "[D] "))
    ]
    asked, told = (_before(directory, marker, added_only=False) for marker in markers)
    return _spec(
        directory,
        template=_template(
            (asked[0], asked[1] + prompts.of("query", str, "")), (told[0], told[1] + prompts.of("document", str, ""))
        ),
        head=Head.maxsim("sum", vectors),
        max_length=saved.of("document_length", int, 0) or 180,
        kind="ColBERT of PyLate",
    )


def _stanford(directory: Path) -> ModelSpec:
    said = _optional(directory / "artifact.metadata")
    if said.get("similarity", "cosine") != "cosine":
        raise said.wrong("similarity", "only 'cosine' is supported")
    attends = said.of("attend_to_mask_tokens", bool, False)
    return _spec(
        directory,
        template=Template.each(
            query_marker=said.of("query_token_id", str, "") or "[unused0]",
            doc_marker=said.of("doc_token_id", str, "") or "[unused1]",
        ),
        head=Head.maxsim(
            "sum",
            TokenVectors(
                projection=("linear.weight",),
                skip=PUNCTUATION if said.of("mask_punctuation", bool, True) else (),
                **_expanded(directory, said.of("query_maxlen", int, 0) or 32, "", attends),
            ),
        ),
        max_length=said.of("doc_maxlen", int, 0) or 220,
        kind="ColBERT",
    )


def _bge_m3(directory: Path, config: JsonObject, m3_options: tuple[ModelOption, ...]) -> ModelSpec:
    whole = (directory / "sparse_linear.pt").is_file()
    return _spec(
        directory,
        template=Template.each(),
        head=Head.maxsim("mean", TokenVectors(projection=("colbert_linear.pt",), skip_first=True)),
        max_length=max_length_of(directory, config),
        kind="BGE-M3" if whole else "late interaction of RAG-Retrieval",
        more={"scorer": "rerank_colbert.m3:build", "options": m3_options} if whole else {},
    )


def _spec(
    directory: Path,
    *,
    template: Template,
    head: Head,
    max_length: int,
    kind: str,
    more: Mapping[str, Any] | None = None,
) -> ModelSpec:
    return ModelSpec(
        name=model_name_of(directory),
        template=template,
        head=head,
        max_length=max_length,
        description=f"{kind}, from a directory",
        **(more or {}),
    )


def _modules(directory: Path) -> tuple[tuple[str, ...], list[JsonObject], bool]:
    """Folders of the dense layers, settings of the masks, whether vectors are normalised: from ``modules.json``, whose
    first is the encoder in the folder itself."""
    file = directory / "modules.json"
    listed = [(item.of("type", str, "").rpartition(".")[2], item.of("path", str, "")) for item in read_json_list(file)]
    if not listed or listed[0] != ("Transformer", ""):
        raise CheckpointError(f"{file}: the encoder must be a Transformer in the folder itself, not {listed[:1]!r}")
    if _optional(directory / "sentence_bert_config.json").of("do_lower_case", bool, False):
        raise CheckpointError(f"{directory}: do_lower_case outside the tokenizer is not supported")
    known = ("Dense", "MultiVectorMask", "Normalize")
    for kind, path in listed[1:]:
        if kind not in known:
            raise CheckpointError(f"{file}: {path!r} is a {kind}, which changes the vectors; known are {known!r}")
    dense = tuple(path for kind, path in listed if kind == "Dense")
    masks = [
        _optional(inside(directory, path, file) / "config.json") for kind, path in listed if kind == "MultiVectorMask"
    ]
    return dense, masks, any(kind == "Normalize" for kind, _ in listed)


def _before(directory: Path, prompt: str, *, added_only: bool) -> tuple[str, str]:
    """What stands before a text, as ``(marker, literal text)``: a prompt is a marker where the tokenizer has it as one
    token. PyLate and Stanford's ColBERT put theirs in by its id, so that any token of the vocabulary will do."""
    if not prompt:
        return "", ""
    file = read_json(directory / "tokenizer.json")
    known = {JsonObject(token, file.file).of("content", str, "") for token in file.of("added_tokens", list, [])}
    if not added_only:
        known.update(_vocabulary(file))
    if prompt in known:
        return prompt, ""
    if prompt.strip() in known:
        return prompt.strip(), ""
    return "", prompt


def _vocabulary(file: JsonObject) -> list[str]:
    listed = file.inner("model").get("vocab") or ()
    return list(listed) if isinstance(listed, dict) else [token for token, _ in listed]


def _template(query: tuple[str, str], doc: tuple[str, str]) -> Template:
    return Template.each(query[1] + "{query}", doc[1] + "{doc}", query_marker=query[0], doc_marker=doc[0])


def _expanded(directory: Path, length: int, token: str, attend: bool) -> dict[str, Any]:
    """Fields of `TokenVectors`: the mask fills a query up, or where there is none what ends a text."""
    if not length:
        return {}
    if not token:
        said = {**_optional(directory / "special_tokens_map.json"), **_optional(directory / "tokenizer_config.json")}
        named = said.get("mask_token") or said.get("eos_token")
        token = named.get("content") if isinstance(named, Mapping) else named
    if not token or not isinstance(token, str):
        raise CheckpointError(f"{directory}: queries are filled up, and the tokenizer names neither mask nor eos token")
    return {"expand_to": length, "expand_with": token, "attend_expansion": attend}


def _optional(path: Path) -> JsonObject:
    return read_json(path) if os.path.lexists(path) else JsonObject({}, path)
