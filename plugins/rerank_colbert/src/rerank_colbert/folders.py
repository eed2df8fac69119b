"""Specs of late-interaction checkpoints, from the files in their folder and never from its path.

The formats are those of sentence-transformers >= 6 (`MultiVectorEncoder`), PyLate, Stanford's ColBERT, and BGE-M3 and
RAG-Retrieval (``colbert_linear.pt``), read as their own loaders read them.
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from rerank_colbert.modules import dense_folders, is_normalized, skipped_tokens
from rerank_core import CheckpointError, Head, ModelOption, ModelSpec, Template, TokenVectors
from rerank_core.spec import (
    JsonObject,
    Module,
    TransformerSettings,
    encoder_settings,
    max_length_of,
    model_name_of,
    modules_after_transformer,
    optional_json,
    read_json,
    reading,
)

__all__ = ["spec_of"]

PUNCTUATION = tuple(string.punctuation)
_PREFIXES = ("query_prefix", "document_prefix")
_OF_PYLATE = {
    *_PREFIXES, "query_length", "document_length", "query_expansion", "do_query_expansion",
    "attend_to_expansion_tokens", "attend_to_mask_tokens", "skiplist_words",
}  # fmt: skip


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
    settings = encoder_settings(directory)
    modules = _modules(directory)
    skip, in_queries = skipped_tokens(modules)
    prompts = saved.inner("prompts")
    # Settings of PyLate stay in the file where a folder was converted.
    prefixes = [saved.of(name, str, "") for name in _PREFIXES]
    doc = next((prompts.of(key, str, "") for key in ("document", "passage", "corpus") if key in prompts), "")
    return _spec(
        directory,
        template=_template(directory, prefixes, [prompts.of("query", str, ""), doc]),
        head=Head.maxsim(
            _reduce(saved),
            TokenVectors(
                projection=dense_folders(modules),
                normalize=is_normalized(modules),
                skip=skip,
                skip_in_queries=in_queries,
                **_expanded(directory, _expansion(directory, saved, settings)),
            ),
        ),
        max_length=settings.document_length
        or saved.of("document_length", int, 0)
        or settings.max_length
        or max_length_of(directory, config),
        kind="MultiVectorEncoder of sentence-transformers",
    )


def _reduce(saved: JsonObject) -> Literal["mean", "sum"]:
    """How similarities are combined. Names of other models' similarities, such as ``cosine``, say nothing here."""
    return "mean" if saved.get("similarity_fn_name") == "meanmaxsim" else "sum"


def _pylate(directory: Path, saved: JsonObject) -> ModelSpec:
    settings = encoder_settings(directory)
    words = saved.texts("skiplist_words")
    vectors = TokenVectors(
        projection=dense_folders(_modules(directory)),
        skip=PUNCTUATION if words is None else words,
        **_expanded(directory, _expansion(directory, saved, settings)),
    )
    prompts = saved.inner("prompts")
    # An empty prefix, or null, means no prefix.
    prefixes = [
        saved.of(name, str, "") if name in saved else default
        for name, default in zip(_PREFIXES, ("[Q] ", "[D] "), strict=True)
    ]
    return _spec(
        directory,
        template=_template(directory, prefixes, [prompts.of(side, str, "") for side in ("query", "document")]),
        head=Head.maxsim(_reduce(saved), vectors),
        max_length=saved.of("document_length", int, 0) or 180,
        kind="ColBERT of PyLate",
    )


def _expansion(directory: Path, saved: JsonObject, settings: TransformerSettings) -> JsonObject | None:
    """How queries are filled up: as the encoder's settings say, else as PyLate's do, if there are any."""
    if "query_expansion" in optional_json(directory / "sentence_bert_config.json") or not _OF_PYLATE & set(saved):
        return settings.query_expansion
    return _pylate_expansion(saved)


def _pylate_expansion(saved: JsonObject) -> JsonObject | None:
    """PyLate's settings of query expansion as those of sentence-transformers, which folders of the two may have too."""
    if "query_expansion" in saved:
        return saved.inner("query_expansion")
    if not saved.of("do_query_expansion", bool, True):
        return None
    attend = saved.of("attend_to_expansion_tokens", bool, saved.of("attend_to_mask_tokens", bool, False))
    length = saved.of("query_length", int, 0) or 32
    return JsonObject({"strategy": "fixed", "length": length, "attend": attend}, saved.file)


def _stanford(directory: Path) -> ModelSpec:
    settings = optional_json(directory / "artifact.metadata")
    if settings.get("similarity", "cosine") != "cosine":
        raise settings.wrong("similarity", "only 'cosine' is supported")
    expansion = {
        "strategy": "fixed",
        "length": settings.of("query_maxlen", int, 0) or 32,
        "attend": settings.of("attend_to_mask_tokens", bool, False),
    }
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
                **_expanded(directory, JsonObject(expansion, settings.file)),
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


def _modules(directory: Path) -> list[Module]:
    return modules_after_transformer(
        directory, vectors="token_embeddings", packages=("sentence_transformers", "pylate")
    )


def _template(directory: Path, prefixes: Sequence[str], prompts: Sequence[str]) -> Template:
    """The template of prefixes, which are inserted as tokens, and prompts, which are text, each of queries and of
    documents. Where there is no prefix, a prompt that is an added token is a marker."""
    if any(prefixes):
        # A folder that was saved again has the prefix in the prompt too.
        texts = [prompt.removeprefix(prefix) for prefix, prompt in zip(prefixes, prompts, strict=True)]
        markers = _markers(directory, prefixes, added_only=False)
    else:
        texts, markers = ["", ""], _markers(directory, prompts, added_only=True)
    (query_marker, query), (doc_marker, doc) = markers
    return Template.each(
        f"{query}{texts[0]}{{query}}", f"{doc}{texts[1]}{{doc}}", query_marker=query_marker, doc_marker=doc_marker
    )


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


def _expanded(directory: Path, expansion: JsonObject | None) -> dict[str, Any]:
    """The fields of `TokenVectors` for query expansion. By default queries are filled with the mask token, or with the
    end token where the tokenizer has no mask token.

    Args:
        expansion: as sentence-transformers saves it; None or empty where queries are not filled up. ``fixed`` and
            ``min`` differ in longer queries, which are read whole here.
    """
    if not expansion:
        return {}
    if unknown := sorted(set(expansion) - {"strategy", "length", "attend", "token"}):
        raise CheckpointError(f"{expansion.file}: query_expansion has {unknown[0]!r}, which is not supported")
    if (strategy := expansion.get("strategy")) not in ("fixed", "min"):
        raise CheckpointError(
            f"{expansion.file}: the strategy of query_expansion is {strategy!r}; it must be 'fixed' or 'min'"
        )
    length, token = expansion.of("length", int, 0), expansion.of("token", str, "")
    if length < 1:
        raise CheckpointError(
            f"{expansion.file}: the length of query_expansion is {length!r}; it must be a positive integer"
        )
    if not token:
        names = {
            **optional_json(directory / "special_tokens_map.json"),
            **optional_json(directory / "tokenizer_config.json"),
        }
        entry = names.get("mask_token") or names.get("eos_token")
        found = entry.get("content") if isinstance(entry, Mapping) else entry
        token = found if isinstance(found, str) else ""
    if not token:
        raise CheckpointError(f"{directory}: queries are filled up, and the tokenizer names neither mask nor eos token")
    return {"expand_to": length, "expand_with": token, "attend_expansion": expansion.of("attend", bool, False)}
