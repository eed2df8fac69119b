"""What a checkpoint's files say of its convention. Nothing is concluded from a path.

sentence-transformers >= 6 (`MultiVectorEncoder`), PyLate, Stanford's ColBERT and the ``colbert_linear.pt`` of BGE-M3
and RAG-Retrieval; formats as their loaders read them.
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rerank_core import CheckpointError, Head, ModelOption, ModelSpec, Template, TokenVectors
from rerank_core.naming import model_name_of
from rerank_core.spec_file import inside, read_json

__all__ = ["spec_of"]

PUNCTUATION = tuple(string.punctuation)


def spec_of(directory: Path, m3_options: tuple[ModelOption, ...]) -> ModelSpec | None:
    """The spec of a late-interaction checkpoint; None for any other.

    Raises:
        CheckpointError: a late-interaction checkpoint that cannot be read as its makers do.
    """
    saved = _optional(directory / "config_sentence_transformers.json")
    config = _optional(directory / "config.json")
    if saved.get("model_type") == "MultiVectorEncoder":
        return _sentence_transformers(directory, saved, config)
    if saved.get("model_type") == "ColBERT" or "query_prefix" in saved:
        return _pylate(directory, saved, config)
    if "HF_ColBERT" in (config.get("architectures") or ()):
        return _stanford(directory, config)
    if (directory / "colbert_linear.pt").is_file():
        return _bge_m3(directory, config, m3_options)
    return None


def _sentence_transformers(directory: Path, saved: Mapping[str, Any], config: Mapping[str, Any]) -> ModelSpec:
    dense, masks, normalize = _modules(directory)
    own = _optional(directory / "sentence_bert_config.json")
    if len(masks) > 1 or any(mask.get("keep_only_token_ids") for mask in masks):
        raise CheckpointError(f"{directory} scores only chosen tokens, as models of images do; that is not supported")
    mask = masks[0] if masks else {}
    tasks = mask.get("skiplist_tasks") or ["document"]
    words = tuple(mask.get("skiplist_words") or ()) if "document" in tasks else ()
    expansion = own.get("query_expansion") or {}
    vectors = TokenVectors(
        projection=dense,
        normalize=normalize,
        skip=words,
        skip_in_queries=bool(words) and "query" in tasks,
        **_expanded(directory, expansion.get("length"), expansion.get("token"), bool(expansion.get("attend"))),
    )
    prompts = saved.get("prompts") or {}
    asked = _before(directory, prompts.get("query") or "", added_only=True)
    read = next((prompts[key] for key in ("document", "passage", "corpus") if prompts.get(key)), "")
    told = _before(directory, read, added_only=True)
    return _spec(
        directory,
        template=_template(asked, told),
        head=Head.maxsim("mean" if saved.get("similarity_fn_name") == "meanmaxsim" else "sum", vectors),
        max_length=own.get("document_length") or own.get("max_seq_length") or _limit(directory, config),
        kind="MultiVectorEncoder of sentence-transformers",
    )


def _pylate(directory: Path, saved: Mapping[str, Any], config: Mapping[str, Any]) -> ModelSpec:
    dense, _, _ = _modules(directory)
    words = saved.get("skiplist_words")
    length = saved.get("query_length") or 32
    expands = saved.get("do_query_expansion") is not False
    vectors = TokenVectors(
        projection=dense,
        skip=PUNCTUATION if words is None else tuple(words),
        **_expanded(directory, length if expands else None, None, bool(saved.get("attend_to_expansion_tokens"))),
    )
    prompts = saved.get("prompts") or {}
    markers = (saved.get("query_prefix", "[Q] ") or "", saved.get("document_prefix", "[D] ") or "")
    asked, told = (_before(directory, marker, added_only=False) for marker in markers)
    return _spec(
        directory,
        template=_template(
            (asked[0], asked[1] + (prompts.get("query") or "")), (told[0], told[1] + (prompts.get("document") or ""))
        ),
        head=Head.maxsim("sum", vectors),
        max_length=saved.get("document_length") or 180,
        kind="ColBERT of PyLate",
    )


def _stanford(directory: Path, config: Mapping[str, Any]) -> ModelSpec:
    file = directory / "artifact.metadata"
    said = read_json(file) if file.is_file() else {}
    if said.get("similarity", "cosine") != "cosine":
        raise CheckpointError(f"{file}: similarity is {said['similarity']!r}; only 'cosine' is supported")
    attends = bool(said.get("attend_to_mask_tokens"))
    return _spec(
        directory,
        template=Template.each(
            query_marker=said.get("query_token_id") or "[unused0]", doc_marker=said.get("doc_token_id") or "[unused1]"
        ),
        head=Head.maxsim(
            "sum",
            TokenVectors(
                projection=("linear.weight",),
                skip=PUNCTUATION if said.get("mask_punctuation", True) else (),
                **_expanded(directory, said.get("query_maxlen") or 32, None, attends),
            ),
        ),
        max_length=said.get("doc_maxlen") or 220,
        kind="ColBERT",
    )


def _bge_m3(directory: Path, config: Mapping[str, Any], m3_options: tuple[ModelOption, ...]) -> ModelSpec:
    whole = (directory / "sparse_linear.pt").is_file()
    return _spec(
        directory,
        template=Template.each(),
        head=Head.maxsim("mean", TokenVectors(projection=("colbert_linear.pt",), skip_first=True)),
        max_length=_limit(directory, config),
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


def _modules(directory: Path) -> tuple[tuple[str, ...], list[dict[str, Any]], bool]:
    """Folders of the dense layers, settings of the masks, whether vectors are normalised: from ``modules.json``, whose
    first is the encoder in the folder itself."""
    import json

    file = directory / "modules.json"
    try:
        listed = [(item["type"].rpartition(".")[2], item["path"]) for item in json.loads(file.read_text("utf-8"))]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{file} cannot be read: {type(error).__name__}: {error}") from error
    if not listed or listed[0] != ("Transformer", ""):
        raise CheckpointError(f"{file}: the encoder must be a Transformer in the folder itself, not {listed[:1]!r}")
    if _optional(directory / "sentence_bert_config.json").get("do_lower_case"):
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
    known = {token["content"] for token in file.get("added_tokens", ())}
    if not added_only:
        known.update(_vocabulary(file))
    if prompt in known:
        return prompt, ""
    if prompt.strip() in known:
        return prompt.strip(), ""
    return "", prompt


def _vocabulary(file: Mapping[str, Any]) -> list[str]:
    listed = file.get("model", {}).get("vocab", ())
    return list(listed) if isinstance(listed, dict) else [token for token, _ in listed]


def _template(query: tuple[str, str], doc: tuple[str, str]) -> Template:
    return Template.each(query[1] + "{query}", doc[1] + "{doc}", query_marker=query[0], doc_marker=doc[0])


def _expanded(directory: Path, length: int | None, token: str | None, attend: bool) -> dict[str, Any]:
    """Fields of `TokenVectors`: the mask fills a query up, or where there is none what ends a text."""
    if length is None:
        return {}
    if token is None:
        said = {**_optional(directory / "special_tokens_map.json"), **_optional(directory / "tokenizer_config.json")}
        named = said.get("mask_token") or said.get("eos_token")
        token = named.get("content") if isinstance(named, Mapping) else named
    if not token:
        raise CheckpointError(f"{directory}: queries are filled up, and the tokenizer names neither mask nor eos token")
    return {"expand_to": length, "expand_with": token, "attend_expansion": attend}


def _limit(directory: Path, config: Mapping[str, Any]) -> int:
    """What the tokenizer was saved with, where it is a real limit; else 512. The backend checks positions."""
    values = (
        _optional(directory / "tokenizer_config.json").get("model_max_length"),
        config.get("max_position_embeddings"),
    )
    return min((value for value in values if isinstance(value, int) and 0 < value < 1_000_000), default=512)


def _optional(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}
